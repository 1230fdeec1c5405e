"""How long the command line takes to answer."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from perf import Row

ROUNDS = 5


def measure() -> list[Row]:
    """Seconds on the clock of `rc2l-bench --help`; once more before that, so that it is compiled and in memory."""
    script = Path(sys.executable).parent / "rc2l-bench"
    seconds = []
    for _ in range(ROUNDS + 1):
        begin = time.perf_counter()
        subprocess.run([script, "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - begin)
    return [Row("seconds of rc2l-bench --help", statistics.median(seconds[1:]), 0.5, least=False)]
