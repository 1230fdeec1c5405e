"""Compare two methods on the test part, which no table compares on, as the report compares them on val."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rc2l_bench.metrics import Floats
from rc2l_bench.report import stats
from rc2l_bench.report.results import FinishedRun
from rc2l_bench.report.run_files import read_areas
from rc2l_bench.report.variance import leave_one_out


def compare_on_test(ours: Sequence[FinishedRun], theirs: Sequence[FinishedRun]) -> stats.Difference | None:
    """Compute the paired difference of two methods on test over common seeds.

    Args:
        ours: runs of one method on a split.
        theirs: of the other one.

    Returns:
        mIoU of the first less that of the second, as one comparison by itself; None without common seeds.

    Raises:
        ValueError: a run has no counts on test, or they are of other images than its neighbours'.
    """
    first, second = ({run.cell.seed: run for run in runs} for runs in (ours, theirs))
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    found = [_left_out(table[seed]) for table in (first, second) for seed in seeds]
    if len({ids for ids, _ in found}) > 1:
        raise ValueError("runs were scored on other images than their neighbours")
    left_out = np.stack([scores for _, scores in found], axis=1)
    values, others = (np.array([table[seed].miou_test for seed in seeds]) for table in (first, second))
    return stats.compare(values, others, (left_out[:, : len(seeds)], left_out[:, len(seeds) :]))


def _left_out(run: FinishedRun) -> tuple[tuple[str, ...], Floats]:
    """Ids of the images of test, and the mIoU without each of them, (N,)."""
    ids, areas = read_areas(run, "test")
    return ids, leave_one_out(areas[None], run.absent)[:, 0]
