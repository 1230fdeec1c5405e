"""Time what the parts of a step take; on CUDA by events in its own queue, so that no step waits for its clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from rc2l_bench.run.record import Record

STEP = "step"
"""Name of what is timed as a whole step."""


class Moment(Protocol):
    """A moment in the work of a device; `torch.cuda.Event` is one."""

    def record(self) -> None:
        """Say that it is when the device has done what it was given so far."""

    def query(self) -> bool:
        """Tell whether it has come, without waiting."""

    def synchronize(self) -> None:
        """Wait until it has come."""

    def elapsed_time(self, end: Any, /) -> float:  # noqa: ANN401 - a later one of the same kind
        """Compute the milliseconds to a later moment; both have come."""


class HostMoment:
    """A moment of a device that works while the host waits, the CPU: it has come as soon as it is recorded."""

    def record(self) -> None:
        """See `Moment`."""
        self.seconds = time.perf_counter()

    def query(self) -> bool:
        """See `Moment`."""
        return True

    def synchronize(self) -> None:
        """See `Moment`."""

    def elapsed_time(self, end: HostMoment, /) -> float:
        """See `Moment`."""
        return 1000 * (end.seconds - self.seconds)


def _cuda_moment() -> Moment:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


class Clock:
    """Begins and ends of parts of steps; what they took goes into a record once the device has come so far."""

    def __init__(self, device: torch.device, moment: Callable[[], Moment] | None = None) -> None:
        """Begin without a part.

        Args:
            device: that computes.
            moment: makes a moment; None = that of the device. On CUDA it is one of the current stream: in another one
                the next batch is being made.
        """
        self._moment: Callable[[], Moment] = moment or (_cuda_moment if device.type == "cuda" else HostMoment)
        self._timed: list[tuple[str, Moment, Moment]] = []

    def _now(self) -> Moment:
        moment = self._moment()
        moment.record()
        return moment

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Time what is done inside, on the host or by the device; nothing is noted of what ends in an exception.

        Args:
            part: one of `record.PARTS`, or `STEP`.
        """
        begin = self._now()
        yield
        self._timed.append((part, begin, self._now()))

    def read(self, record: Record, wait: bool) -> None:
        """Add what is over to a record.

        Args:
            record: whose `part_seconds` and `step_seconds` grow.
            wait: for what is not over yet; if not, it is left for the next time.
        """
        if wait and self._timed:
            self._timed[-1][2].synchronize()
        over = next((n for n, (_, _, end) in enumerate(self._timed) if not end.query()), len(self._timed))
        for part, begin, end in self._timed[:over]:
            seconds = begin.elapsed_time(end) / 1000
            if part == STEP:
                record.step_seconds.append(seconds)
            else:
                record.part_seconds[part] += seconds
        del self._timed[:over]
