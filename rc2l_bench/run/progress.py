"""Show a training while it runs: a live line in the terminal, and a note in the store for `rc2l-bench watch`."""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import TracebackType

from rich import progress

from rc2l_bench.console import console
from rc2l_bench.run.owners import describe_process
from rc2l_bench.run.record import Record
from rc2l_bench.run.running import PERIOD, RunningRun, remove_note, write_note


class Pace:
    """Steps per second of this session."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.first: int | None = None

    def measure(self, record: Record) -> float:
        """Return the mean number of steps per second since the first step that was seen, that one included."""
        # The clock starts with the first step that is seen: a run that continues has done steps before, and what
        # precedes the first step (workers that start, files that are opened) is not training.
        if self.first is None:
            # A device that works ahead of its clock has not told yet what that step took.
            self.first, self.begin = record.step - 1, time.perf_counter() - sum(record.step_seconds[-1:])
        return (record.step - self.first) / (time.perf_counter() - self.begin)


class Progress:
    """One line that moves on a terminal, a line per evaluation in a file or a pipe; and the note of the run."""

    def __init__(self, title: str, steps: int, images: int, folder: Path | None) -> None:
        """Prepare the line.

        Args:
            title: what is trained.
            steps: budget.
            images: images per step.
            folder: of the run in the store; None = this process shows nothing, another one does.
        """
        self.steps = steps
        self.images = images
        self.folder = folder
        self.plain = folder is not None and not console.is_terminal
        self.title = title
        self.shown = 0
        self.noted = 0.0
        self.pace = Pace()
        self.process = describe_process()
        columns = (
            progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[note]}"), progress.TimeRemainingColumn(),
        )  # fmt: skip
        self.line = progress.Progress(*columns, console=console, disable=folder is None or self.plain)
        self.task = self.line.add_task(title, total=steps, note="")

    def __enter__(self) -> Progress:
        self.line.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.line.stop()
        # Only a process that is killed leaves its note behind, which then says where it was.
        if self.folder is not None:
            remove_note(self.folder)

    def note(self, record: Record) -> str:
        """Describe the state: loss, last mIoU in percent, images per second of this session."""
        parts = [f"loss {record.history[-1]['loss']:.3f}"] if record.history else []
        parts += [f"mIoU {100 * record.evaluations[-1][1]:.1f}"] if record.evaluations else []
        return "  ".join([*parts, f"{self.pace.measure(record) * self.images:.0f} images/s"])

    def show(self, record: Record) -> None:
        """Show a finished step."""
        if self.folder is None:
            return
        note = self.note(record)
        self.line.update(self.task, completed=record.step, note=note)
        if self.plain and len(record.evaluations) > self.shown:
            self.shown = len(record.evaluations)
            console.print(f"{self.title}: step {record.step}/{self.steps}  {note}", soft_wrap=True)
        # By the clock, not by steps: a step takes a millisecond or a minute.
        if time.monotonic() - self.noted >= PERIOD:
            self.noted = time.monotonic()
            write_note(self.folder, self.describe(record))

    def describe(self, record: Record) -> RunningRun:
        """Put the state into a note for others."""
        pace = self.pace.measure(record)
        return RunningRun(
            **self.process, title=self.title, step=record.step, steps=self.steps,
            loss=_finite(record.history[-1]["loss"] if record.history else None),
            miou=_finite(record.evaluations[-1][1] if record.evaluations else None),
            images_per_second=pace * self.images, seconds_left=(self.steps - record.step) / pace, noted=time.time(),
        )  # fmt: skip


def _finite(value: float | None) -> float | None:
    """A number for JSON, which has no NaN: the mIoU is NaN where no pixel counts."""
    return value if value is not None and math.isfinite(value) else None
