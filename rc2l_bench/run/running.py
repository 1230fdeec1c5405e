"""Runs that are being carried out: what a training notes of itself now and then, and who reads it. Needs no torch.

The note is a small file in the folder of the run, replaced as a whole at most every `PERIOD` seconds and removed at the
end. It is never synced to the disk: nothing depends on it, and a training must not wait for it.
"""

from __future__ import annotations

import contextlib
import math
import socket
from pathlib import Path
from typing import Literal

import psutil
from pydantic import ValidationError

from rc2l_bench.errors import BenchError
from rc2l_bench.files import temporary_name
from rc2l_bench.readers import read_bytes
from rc2l_bench.run.owners import lives
from rc2l_bench.run.store import STORE
from rc2l_bench.schema import Model

NOTE = "progress.json"
PERIOD = 5.0
"""Seconds between two notes of a training. A note takes about 5 ms of a busy machine, so a thousandth of the time."""
QUIET = 120.0
"""Seconds without a note after which a training that lives is said to be quiet: it evaluates, or hangs."""

State = Literal["running", "quiet", "stopped"]


class RunningRun(Model):
    """What a training says of itself."""

    title: str
    """Data set, split, method, seed."""
    host: str
    """Name of the machine."""
    pid: int
    """Of the process; of its first one where there are several."""
    born: float
    """When that process began, seconds since 1970; with `pid` it names a process for good."""
    step: int
    """Steps that are done."""
    steps: int
    """The budget."""
    loss: float | None
    """Last mean in history.csv; None before the first."""
    miou: float | None
    """Last evaluation, [0, 1]; None before the first."""
    images_per_second: float
    """Of this session."""
    seconds_left: float
    """At the pace of this session, evaluations included."""
    noted: float
    """When this was written, seconds since 1970."""

    def state(self, now: float) -> State:
        """Tell whether the training lives, as far as this machine can know."""
        if self.host == socket.gethostname() and not lives(self.pid, self.born):
            return "stopped"
        return "running" if now - self.noted < QUIET else "quiet"

    def memory(self) -> float:
        """Read the resident memory of the process, MiB; nan where it is gone or on another machine."""
        if self.host == socket.gethostname() and lives(self.pid, self.born):
            with contextlib.suppress(psutil.Error):
                return float(psutil.Process(self.pid).memory_info().rss / 2**20)
        return math.nan


def write_note(folder: Path, run: RunningRun) -> None:
    """Replace the note of a training; a disk that refuses it is passed over, because a note is not worth a run."""
    part = temporary_name(folder / NOTE)
    with contextlib.suppress(OSError):
        part.write_text(run.model_dump_json(), encoding="utf-8")
        part.replace(folder / NOTE)
    part.unlink(missing_ok=True)


def remove_note(folder: Path) -> None:
    """Remove the note of a training that is over."""
    with contextlib.suppress(OSError):
        (folder / NOTE).unlink()


def find_running(store: Path = STORE, every_host: bool = False) -> list[RunningRun]:
    """Read the notes of all trainings of a store.

    Args:
        store: folder of runs by fingerprint.
        every_host: whether to look at those of other machines, too, where several share the store.

    Returns:
        Trainings in the order of their titles. A note that cannot be read is left out: its training has just ended, or
        is of another version.
    """
    here = socket.gethostname()
    notes = map(read_note, (path.parent for path in store.glob(f"*/{NOTE}")))
    found = [run for run in notes if run and (every_host or run.host == here)]
    return sorted(found, key=lambda run: (run.title, run.noted))


def read_note(folder: Path) -> RunningRun | None:
    """Read the note of a training; None where there is none, or it cannot be read."""
    try:
        return RunningRun.model_validate_json(read_bytes(folder / NOTE))
    except (OSError, BenchError, ValidationError):
        return None
