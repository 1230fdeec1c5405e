"""Runs of several folders as one: those of several machines and labs, each run once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rc2l_bench.errors import BenchError
from rc2l_bench.report.comparability import differences
from rc2l_bench.report.results import Cell, FinishedRun, Remark, find
from rc2l_bench.sources import FACTS


def gather(roots: Sequence[Path]) -> tuple[list[FinishedRun], list[Remark]]:
    """Read the runs of folders; one that lies in several of them counts once.

    Args:
        roots: folders of `<dataset>/<split>/<method id>/seed<k>`; they may be missing.

    Returns:
        The readable runs in the order of their cells, of one cell in the order of the folders, and what is wrong with
        the others.

    Raises:
        BenchError: two runs have the same fingerprint and different numbers; names both.
    """
    by_name: dict[str, FinishedRun] = {}
    remarks: list[Remark] = []
    for root in roots:
        runs, wrong = find(root)
        remarks += [Remark(f"{root}: {where}", text) for where, text in wrong] if len(roots) > 1 else wrong
        for run in runs:
            _check_equal(by_name.setdefault(run.record["fingerprint"], run), run)
    return sorted(by_name.values(), key=lambda run: run.cell), remarks


def _check_equal(one: FinishedRun, other: FinishedRun) -> None:
    # Whatever can move a number is in the fingerprint but for the processor: so it is named, too.
    if one.metrics != other.metrics:
        what = differences(other.metrics, one.metrics)
        raise BenchError(
            f"{other.folder}: has the fingerprint of {one.folder} and other numbers ({what}): one of them was edited, "
            "or made on another kind of processor: leave one of them out"
        )


def choose_one_per_cell(
    runs: Sequence[FinishedRun], kept: Sequence[FinishedRun]
) -> tuple[list[FinishedRun], list[Remark]]:
    """Choose among runs of one cell that were made with other versions, code or settings.

    Args:
        runs: all of them.
        kept: those of them that are comparable with their neighbours.

    Returns:
        For every cell the first run that is comparable, else the first; a remark for every other.
    """
    chosen: dict[Cell, FinishedRun] = {}
    for run in (*kept, *runs):
        chosen.setdefault(run.cell, run)
    others = [run for run in runs if chosen[run.cell] is not run]
    remarks = [
        Remark(str(run.cell), f"not shown: {run.folder} differs from {chosen[run.cell].folder}: {_tell(run, chosen)}")
        for run in others
    ]
    return sorted(chosen.values(), key=lambda run: run.cell), remarks


def _tell(run: FinishedRun, chosen: dict[Cell, FinishedRun]) -> str:
    parts = [{k: v for k, v in r.record.items() if k not in FACTS} for r in (run, chosen[run.cell])]
    return differences(*parts) or "metrics.json"
