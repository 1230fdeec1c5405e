"""The next batch is made while a step runs: in a thread, and on CUDA in a stream of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch

from rc2l_bench.types import Batch

_LOOK = 0.1
"""Seconds after which a thread that waits looks whether it is still wanted."""
_PATIENCE = 10.0
"""Seconds that a thread has to finish what it is doing when it is not wanted any more."""


def prefetch(
    loaded: Iterator[Any], finish: Callable[[Any, int], Batch], start: int, device: torch.device
) -> Iterator[Batch]:
    """Make batches one ahead of the one that is used, in the order in which they were loaded.

    A batch depends on what was loaded and on its step alone, so it is the same as without a thread.

    Args:
        loaded: what loader processes give; each is used up before the next one is taken.
        finish: makes the batch of a step; called in the thread.
        start: first step.
        device: where the batches are.

    Yields:
        The batches; closing the iterator ends the thread and closes `loaded`.
    """
    worker = _Worker(loaded, finish, start, device)
    try:
        yield from worker.batches()
    finally:
        worker.close()


class _Worker:
    """The thread, and the one place for a batch between it and the training."""

    def __init__(
        self, loaded: Iterator[Any], finish: Callable[[Any, int], Batch], start: int, device: torch.device
    ) -> None:  # fmt: skip
        self._loaded, self._finish, self._start, self._device = loaded, finish, start, device
        # One place: a second batch ahead would cost memory of the device and save nothing.
        self._done: queue.Queue[tuple[Any, Any]] = queue.Queue(1)
        self._unwanted = threading.Event()
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        # The first one is loaded here: loader processes are forked from the main thread, which alone is safe.
        self._first = next(loaded, None)
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def batches(self) -> Iterator[Batch]:
        while True:
            item, ready = self._done.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            if ready is not None:
                # Memory of the other stream: it may be used again only after the step that reads it.
                current = torch.cuda.current_stream(self._device)
                current.wait_event(ready)
                for tensor in item.tensors().values():
                    tensor.record_stream(current)
            yield item

    def close(self) -> None:
        self._unwanted.set()
        self._thread.join(_PATIENCE)
        # A thread that still waits for a server ends with this process, and so do its loader processes.
        if not self._thread.is_alive() and hasattr(self._loaded, "close"):
            self._loaded.close()

    def _run(self) -> None:
        try:
            item, step = self._first, self._start
            while item is not None and not self._unwanted.is_set():
                self._put(*self._make(item, step))
                item, step = next(self._loaded, None), step + 1
            self._put(None, None)
        except BaseException as error:
            self._put(error, None)

    def _make(self, item: Any, step: int) -> tuple[Batch, Any]:  # noqa: ANN401 - what was loaded
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            return self._finish(item, step), self._stream.record_event() if self._stream else None

    def _put(self, item: Any, ready: Any) -> None:  # noqa: ANN401 - see `_done`
        while not self._unwanted.is_set():
            try:
                self._done.put((item, ready), timeout=_LOOK)
                return
            except queue.Full:
                continue
