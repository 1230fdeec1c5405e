"""Tell experiment trackers of a training while it runs.

Each tracker is a process of its own that reads lines from a pipe, so that one that is slow, waits for a network, fails
or never ends cannot hold up or stop a training, nor touch its random numbers or its memory. history.csv stays the
truth: what a tracker shows is a copy.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rc2l_bench.files import say
from rc2l_bench.readers import read_json
from rc2l_bench.run.record import Record

PATIENCE = 30.0
"""Seconds that a tracker gets at the end of a training to write or upload what it still has."""
SETTINGS = ("protocol", "method_config", "runtime")
"""Parts of run.json that trackers show as settings."""
MOST_WAITING = 1 << 20
"""Bytes that wait for a tracker that does not read, until it is given up: thousands of rows."""


class TrackerPipe:
    """The process of one tracker, and what is still to be written to it."""

    def __init__(self, name: str, head: Mapping[str, Any]) -> None:
        """Start the process.

        Args:
            name: of `runtime.trackers`.
            head: first line; see `tracker_process.Head`.
        """
        self.name = name
        self.waiting = b""
        command = [sys.executable, "-m", "rc2l_bench.run.tracker_process", name]
        # A session of its own: Ctrl-C reaches the training alone, which then closes the pipe.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        assert self.process.stdin is not None
        self.pipe = self.process.stdin.fileno()
        os.set_blocking(self.pipe, False)
        self.alive = True
        self.send(head)

    def send(self, line: Mapping[str, Any]) -> None:
        """Queue a line and write what the pipe takes, without waiting."""
        if not self.alive:
            return
        self.waiting += json.dumps(line).encode() + b"\n"
        self._write()
        if len(self.waiting) > MOST_WAITING:
            self.give_up("does not read what it is sent")

    def _write(self) -> None:
        try:
            while self.waiting:
                self.waiting = self.waiting[os.write(self.pipe, self.waiting) :]
        except BlockingIOError:
            return
        except OSError:  # it has ended, and has said why
            self.alive = False

    def give_up(self, reason: str) -> None:
        """Kill the process and say so; the training goes on."""
        self.alive = False
        self.process.kill()
        say(f"tracker {self.name}: {reason}; given up, history.csv has everything")

    def close(self, deadline: float) -> None:
        """Write the rest, close the pipe and wait for the end of the process.

        Args:
            deadline: on the clock of `time.monotonic`; whoever is not done by then is given up.
        """
        while self.alive and self.waiting and (left := deadline - time.monotonic()) > 0:
            select.select([], [self.pipe], [], left)
            self._write()
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.give_up(f"was not done {PATIENCE:.0f} s after the training")
            self.process.wait()


class Trackers:
    """All trackers of a training; none is a matter of course."""

    def __init__(self, names: Sequence[str], head: Mapping[str, Any]) -> None:
        """Prepare; processes start with the first row, when the training is known to work.

        Args:
            names: of `runtime.trackers`.
            head: see `tracker_process.Head`.
        """
        self.names = names
        self.head = head
        self.started: list[TrackerPipe] | None = None
        self.told = 0

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + PATIENCE
        for tracker in self.started or []:
            tracker.close(deadline)

    def resume(self, record: Record) -> None:
        """Leave out the rows that an earlier session has told."""
        self.told = len(record.history)

    def show(self, record: Record) -> None:
        """Pass on the rows of history.csv that are new."""
        if not self.names or len(record.history) <= self.told:
            return
        if self.started is None:
            begin = record.history[self.told - 1]["step"] if self.told else 0
            self.started = [TrackerPipe(name, {**self.head, "begin": begin}) for name in self.names]
        for row in record.history[self.told :]:
            self.send({"row": {name: value for name, value in row.items() if value is not None}})
        self.told = len(record.history)

    def finish(self, result: Path) -> None:
        """Pass on the final scores.

        Args:
            result: folder of the result, which is complete.
        """
        metrics = read_json(result / "metrics.json")
        scores = {"miou": metrics["miou"], "test_miou": (metrics["test"] or {}).get("miou")}
        self.send({"result": {name: value for name, value in scores.items() if value is not None}})

    def send(self, line: Mapping[str, Any]) -> None:
        """Send a line to every tracker that still listens."""
        for tracker in self.started or []:
            tracker.send(line)


def head_of(provenance: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Assemble what trackers are told first, from run.json; see `tracker_process.Head`."""
    settings = {name: provenance[name] for name in SETTINGS}
    return {
        "title": title, "cell": provenance["cell"], "fingerprint": provenance["fingerprint"],
        "settings": dict(_flatten(settings)),
    }  # fmt: skip


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - JSON holds anything
    """Dotted names and values of nested keys; a list is one value, as text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, str(value) if isinstance(value, list) else value
