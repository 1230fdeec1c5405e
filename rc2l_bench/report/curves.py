"""What was scored during training, joined over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rc2l_bench.report.results import FinishedRun, Remark
from rc2l_bench.report.run_files import read_curve


def join_curves(runs: Sequence[FinishedRun], score: str, remarks: list[Remark]) -> pd.DataFrame | None:
    """Compute mean, lowest and highest over seeds of a score at every step at which it was taken.

    Args:
        runs: the seeds.
        score: see `run_files.read_curve`.
        remarks: gets the histories that cannot be read; the other seeds are joined without them.

    Returns:
        A table by step with the columns `mean`, `min` and `max`, in [0, 1]; None where nothing was scored.
    """
    curves = [np.empty((0, 2))]
    for run in runs:
        try:
            curves.append(read_curve(run, score))
        except ValueError as error:
            remarks.append(Remark(str(run.cell), f"no learning curve: {error}"))
    # By step: a seed that was evaluated at other steps adds points, and none is interpolated.
    joined = pd.DataFrame(np.concatenate(curves), columns=["step", "score"])
    return joined.groupby("step")["score"].agg(["mean", "min", "max"]) if len(joined) else None
