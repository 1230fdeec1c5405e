"""Notes of trainings that run, and a process that does not, for tests."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rc2l_bench.run.owners import describe_process
from rc2l_bench.run.running import RunningRun, write_note

FIELDS: dict[str, Any] = {
    "title": "tiny 1_4 baselines/cps seed 0", "step": 30, "steps": 120, "loss": 1.2345, "miou": 0.456,
    "images_per_second": 87.6, "seconds_left": 3725.0,
}  # fmt: skip


def note(folder: Path, **changes: Any) -> RunningRun:
    run = RunningRun(**(describe_process() | FIELDS | {"noted": time.time()} | changes))
    folder.mkdir(parents=True, exist_ok=True)
    write_note(folder, run)
    return run


def ended() -> int:
    """The number of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid
