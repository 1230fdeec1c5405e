"""What a trial of `rc2l-bench tune` is asked, and what it has answered; see `trial.main`. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rc2l_bench.readers import read_json
from rc2l_bench.run.cell import RunInputs, open_cell


def open_trial(asked: dict[str, Any]) -> RunInputs:
    """Read everything that a trial needs.

    Args:
        asked: content of the request.
    """
    return open_cell(
        asked["dataset"], asked["split"], asked["method"], asked["seed"], Path(asked["shards"]), Path(asked["plan"]),
        asked["numbers"],
    )  # fmt: skip


def has_diverged(answer: Path, fingerprint: str) -> bool:
    """Whether a process has seen the trial diverge, which leaves no result that could be looked up."""
    found = read_json(answer) if answer.is_file() else {}
    return found.get("fingerprint") == fingerprint and bool(found["diverged"])
