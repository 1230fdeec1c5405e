"""What was submitted to a cluster: for each array job a folder that all machines see, with its tasks and their states.

A folder under `.rc2l/jobs` holds the job script, the number of the job (`job.json`), and for every task what it has to
do (`<task>.json`), how far it came (`<task>.state`) and its log (`<task>.log`).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from rc2l_bench.files import write_atomically
from rc2l_bench.readers import read_bytes, reading
from rc2l_bench.run.assignments import Assignment
from rc2l_bench.run.slurm import Place
from rc2l_bench.schema import Model

M = TypeVar("M", bound=Model)

JOBS = Path(".rc2l/jobs")
NUMBER = "job.json"
NOW = "%Y%m%d-%H%M%S"
"""How names begin, so that they are in the order of time."""
MOST_TASKS = 10_000
"""Of an array, whatever the cluster would take."""
TAIL = 1 << 14
"""Bytes of a log that are looked at for what went wrong."""
TELLING = ("error:", "DUE TO", "Killed", "oom")
"""What a line holds that says why a task ended: ours, and those of Slurm and the shell."""


class TaskState(Model):
    """What a task says of itself."""

    state: Literal["running", "done", "stopped", "cancelled", "failed"]
    """`stopped`: asked to stop, goes on in the queue; `cancelled`: does not."""
    code: int
    """Exit code."""
    host: str
    restarts: int
    """How often Slurm has put it back into the queue."""


class JobNumber(Model):
    """What Slurm calls a submission."""

    job: Annotated[int, Field(ge=1)]
    tasks: Annotated[int, Field(ge=1, le=MOST_TASKS)]


@dataclass(frozen=True)
class Submission:
    """An array job.

    Attributes:
        folder: where everything of it lies.
    """

    folder: Path

    def number(self) -> JobNumber:
        """What Slurm calls it.

        Raises:
            OSError: it has not been submitted.
            DamagedFileError: the file is damaged.
        """
        return _read(JobNumber, self.folder / NUMBER)

    def write_number(self, job: int, tasks: int) -> None:
        """Note that Slurm has taken it."""
        _write(self.folder / NUMBER, JobNumber(job=job, tasks=tasks))

    def places(self) -> Iterator[Place]:
        """All tasks, in order; none of one that was not submitted."""
        if (self.folder / NUMBER).is_file():
            number = self.number()
            yield from (Place(number.job, task) for task in range(number.tasks))

    def task(self, number: int) -> Assignment:
        """What a task has to do."""
        return _read(Assignment, self.folder / f"{number}.json")

    def write_task(self, number: int, task: Assignment) -> None:
        """Write down what a task has to do."""
        _write(self.folder / f"{number}.json", task)

    def state(self, number: int) -> TaskState | None:
        """What a task last said of itself; None before it began."""
        path = self.folder / f"{number}.state"
        return _read(TaskState, path) if path.is_file() else None

    def write_state(self, number: int, state: TaskState) -> None:
        """Say how far a task has come."""
        _write(self.folder / f"{number}.state", state)

    def log(self, number: int) -> Path:
        """Where the output of a task goes."""
        return self.folder / f"{number}.log"

    def last_words(self, number: int) -> str:
        """The line of a log that says why its task ended, or its last one; empty where there is none."""
        path = self.log(number)
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            text = file.read(TAIL).decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        telling = [line for line in lines if any(sign in line for sign in TELLING)]
        return (telling or lines or [""])[-1]


def _read(model: type[M], path: Path) -> M:
    with reading(path, "not a file of this version, remove its folder"):
        return model.model_validate_json(read_bytes(path), strict=True)


def _write(path: Path, content: Model) -> None:
    write_atomically(path, content.model_dump_json().encode())


@contextmanager
def new_submission(tasks: Sequence[Assignment], jobs: Path = JOBS) -> Iterator[Submission]:
    """Make the folder of an array job; it is removed again when the body, which submits it, fails."""
    jobs.mkdir(parents=True, exist_ok=True)
    # Two commands may submit in the same second.
    submission = Submission(Path(tempfile.mkdtemp(prefix=f"{time.strftime(NOW)}-", dir=jobs)))
    try:
        for number, task in enumerate(tasks):
            submission.write_task(number, task)
        yield submission
    except BaseException:
        shutil.rmtree(submission.folder, ignore_errors=True)
        raise


def find_submissions(jobs: Path = JOBS) -> list[Submission]:
    """All submissions, the oldest first."""
    found = (Submission(path.parent) for path in jobs.glob(f"*/{NUMBER}"))
    # Of the same second, the one with the lower number.
    return sorted(found, key=lambda one: (one.folder.name[: len(time.strftime(NOW))], one.number().job))
