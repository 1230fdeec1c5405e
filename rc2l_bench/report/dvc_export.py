"""Export runs for DVC's own commands: `dvc metrics show`, `dvc plots show`, and the editor extension.

DVC cannot look for files by a pattern, and a run's folder is one output of its stage, so the numbers are gathered here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from rc2l_bench.files import replace_folder
from rc2l_bench.report.results import FinishedRun, number
from rc2l_bench.report.run_files import read_curve

CURVES = ["step", "miou", "run"]
"""Columns of a file of learning curves."""


def write(runs: Iterable[FinishedRun], out: Path) -> None:
    """Write the metrics and curves of runs, each folder as a whole.

    Args:
        runs: all that could be read.
        out: folder of `metrics/<dataset>/<split>/<method>/seed<k>.json` and `curves/<dataset>-<split>.csv`.
    """
    # Read twice, and it may be a generator.
    found = list(runs)
    replace_folder(out / "metrics", lambda folder: _write_metrics(found, folder))
    replace_folder(out / "curves", lambda folder: _write_curves(found, folder))


def _write_metrics(runs: list[FinishedRun], folder: Path) -> None:
    for run in runs:
        cell = run.cell
        file = folder / cell.dataset / cell.split / cell.method / f"seed{cell.seed}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(summarise(run), indent=2) + "\n")


def summarise(run: FinishedRun) -> dict[str, float]:
    """Pick the few numbers of a run that fit into one row.

    Returns:
        mIoUs in [0, 1], seconds, MiB; what is not known is left out, because JSON has no NaN.
    """
    every = {
        "miou": run.miou,
        "miou_best_on_val": run.miou_best,
        "miou_test": run.miou_test,
        "step_seconds": number(run.cost, "step_seconds", "median"),
        "seconds": number(run.cost, "seconds"),
        "allocated_mb": number(run.cost, "peak_memory", "allocated_mb"),
        "resident_mb": number(run.cost, "peak_memory", "resident_mb"),
    }
    return {name: value for name, value in every.items() if math.isfinite(value)}


def _write_curves(runs: list[FinishedRun], folder: Path) -> None:
    curves: dict[str, list[tuple[float, float, str]]] = {}
    for run in runs:
        try:
            curve = read_curve(run)
        except ValueError:
            continue  # the report says so
        # In long form, a row for each step and run: what DVC's plots group by a column.
        line = f"{run.cell.method.split('/')[-1]} {run.cell.seed}"
        rows = curves.setdefault(f"{run.cell.dataset}-{run.cell.split}", [])
        rows += [(float(step), float(miou), line) for step, miou in curve]
    for name, rows in curves.items():
        pd.DataFrame(rows, columns=CURVES).to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
