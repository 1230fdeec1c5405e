"""Show the live line of a training: loss, mIoU, images per second, time left."""

from __future__ import annotations

import time
from types import TracebackType

from rich import progress

from rc2l_bench.console import console
from rc2l_bench.run.record import Record


class Progress:
    """One line that moves on a terminal; a line per evaluation in a file or a pipe."""

    def __init__(self, title: str, steps: int, images: int, visible: bool) -> None:
        """Prepare the line.

        Args:
            title: what is trained.
            steps: budget.
            images: images per step.
            visible: whether this process shows anything.
        """
        self.steps = steps
        self.images = images
        self.visible = visible
        self.plain = visible and not console.is_terminal
        self.title = title
        self.shown = 0
        self.begin = time.perf_counter()
        self.first: int | None = None
        columns = (
            progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[note]}"), progress.TimeRemainingColumn(),
        )  # fmt: skip
        self.line = progress.Progress(*columns, console=console, disable=not visible or self.plain)
        self.task = self.line.add_task(title, total=steps, note="")

    def __enter__(self) -> Progress:
        self.line.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.line.stop()

    def note(self, record: Record) -> str:
        """Describe the state: loss, last mIoU in percent, images per second of this session."""
        # The clock starts with the first step that is seen: a run that continues has done steps before, and what
        # precedes the first step (workers that start, files that are opened) is not training.
        if self.first is None:
            self.first, self.begin = record.step - 1, time.perf_counter() - record.step_seconds[-1]
        rate = (record.step - self.first) * self.images / (time.perf_counter() - self.begin)
        parts = [f"loss {record.history[-1]['loss']:.3f}"] if record.history else []
        parts += [f"mIoU {100 * record.evaluations[-1][1]:.1f}"] if record.evaluations else []
        return "  ".join([*parts, f"{rate:.0f} images/s"])

    def show(self, record: Record) -> None:
        """Show a finished step."""
        note = self.note(record)
        self.line.update(self.task, completed=record.step, note=note)
        if self.plain and len(record.evaluations) > self.shown:
            self.shown = len(record.evaluations)
            console.print(f"{self.title}: step {record.step}/{self.steps}  {note}", soft_wrap=True)
