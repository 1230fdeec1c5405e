"""Evidence: finished runs without their weights, in folders that can be committed, sent and merged.

A run of a folder of evidence has the files of the run under `runs/`, byte for byte, run.json with its hashes included;
only weights and pictures may be missing. So a report reads both alike, and nothing has to be signed again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rc2l_bench.metrics import class_iou, mean_iou
from rc2l_bench.readers import DamagedFileError
from rc2l_bench.report.results import Cell, FinishedRun, Remark, find_folders, number, read_run, tell
from rc2l_bench.report.run_files import read_areas, read_curve
from rc2l_bench.seals import RECORD, read_listed
from rc2l_bench.sources import fingerprint_again

NECESSARY = ("metrics.json", "confusion.npz", "cost.json", "history.csv")
"""Files that every run of evidence has beside run.json."""
WEIGHTS = "model.safetensors"
PICTURES = "panels/"
"""How names of pictures begin."""
TOLERANCE = 1e-9
"""Of scores in [0, 1] that are computed again: sums in another order move the last digits."""


def check_folder(root: Path) -> tuple[int, list[str]]:
    """Check every run of a folder: its hashes, its fingerprint, its scores.

    Args:
        root: folder of `<dataset>/<split>/<method id>/seed<k>`, of evidence or `runs/` itself.

    Returns:
        How many runs there are, and a line for everything that is wrong.
    """
    cells = {folder: cell for cell, folder in find_folders(root)}
    faults = [fault for folder, cell in sorted(cells.items()) for fault in check_run(cell, folder)]
    stray = sorted({record.parent for record in root.rglob(RECORD)} - cells.keys())
    places = [f"{folder}: a run lies here, expected it in <dataset>/<split>/<method id>/seed<k>" for folder in stray]
    return len(cells) + len(stray), faults + places


def check_run(cell: Cell, folder: Path) -> list[str]:
    """Check one run.

    Args:
        cell: what it must be.
        folder: where it lies.

    Returns:
        A line for everything that is wrong, each with the folder's name.
    """
    remarks: list[Remark] = []
    try:
        run = read_run(cell, folder, remarks)
    except (OSError, DamagedFileError) as error:
        return [f"{folder}/{tell(error, folder)}"]
    checks = (_check_files, _check_name, _check_scores, _check_curve)
    # A file that has changed cannot be read: one line is enough for both.
    faults = list(dict.fromkeys(f"{folder}/{fault}" for check in checks for fault in check(run)))
    # What a report would remark on has a line of its own mostly; a file of nonsense with the right hash has not.
    return faults or [f"{folder}: {remark.text}" for remark in remarks]


def _check_files(run: FinishedRun) -> Iterator[str]:
    """Compare what is there with the list of run.json, byte for byte."""
    present = {path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*") if not path.is_dir()}
    for name in sorted(present - run.files.keys() - {RECORD}):
        yield f"{name}: is not among the run's files"
    wanted = [name for name in (*run.files, *NECESSARY) if not is_optional(name) or name in present]
    for name in dict.fromkeys(wanted):
        try:
            read_listed(run.folder, name, run.files)
        except (OSError, DamagedFileError) as error:
            yield tell(error, run.folder)


def is_optional(name: str) -> bool:
    """Tell whether evidence may lack a file of its run: weights and pictures."""
    return name == WEIGHTS or name.startswith(PICTURES)


def _check_name(run: FinishedRun) -> Iterator[str]:
    """Compute the fingerprint of the parts that run.json holds."""
    written, again = run.record["fingerprint"], fingerprint_again(run.record)
    if written != again:
        yield f"{RECORD}: says fingerprint {written[:12]}, its parts give {again[:12]}"


def _check_scores(run: FinishedRun) -> Iterator[str]:
    """Compute from the counts per image what metrics.json says."""
    for part in ("val", "test"):
        written = run.metrics if part == "val" else run.metrics.get(part)
        if written is None:
            continue
        try:
            counted = _score(run, part)
        except ValueError as error:
            yield str(error)
            continue
        for name, value in counted.items():
            if not _agree(value, said := number(written, *name)):
                yield f"metrics.json: {part} {'/'.join(name)} is {said:.6f}, the counts give {value:.6f}"
    yield from _check_best(run)


def _score(run: FinishedRun, part: str) -> dict[tuple[str, ...], float]:
    """Score one part anew: the keys of metrics.json, and shares; nan where undefined.

    Raises:
        ValueError: confusion.npz is damaged or does not have the part.
    """
    areas = read_areas(run, part)[1].sum(0)
    hit, _, truth = areas
    classes: list[str] = run.record["dataset"]["classes"]
    by_class = zip(classes, class_iou(areas, run.absent), strict=True)
    total = float(truth.sum())
    accuracy = float(hit.sum()) / total if total else math.nan
    scores = {("miou",): float(mean_iou(areas, run.absent)), ("pixel_accuracy",): accuracy}
    return scores | {("iou", name): float(value) for name, value in by_class}


def _agree(one: float, other: float) -> bool:
    return math.isclose(one, other, abs_tol=TOLERANCE) or (math.isnan(one) and math.isnan(other))


def _check_best(run: FinishedRun) -> Iterator[str]:
    """Look whether the best evaluation is the best of those that are listed, and the last one the result."""
    rows: Any = run.metrics.get("evaluations")
    scores = np.array([number(row, "miou") for row in rows] if isinstance(rows, list) else [])
    if not len(scores):
        yield "metrics.json: lists no evaluations"
    elif not _agree(float(scores.max()), run.miou_best):
        yield f"metrics.json: miou_best is {run.miou_best:.6f}, the best evaluation has {scores.max():.6f}"
    elif not _agree(float(scores[-1]), run.miou):
        yield f"metrics.json: miou is {run.miou:.6f}, the last evaluation has {scores[-1]:.6f}"


def _check_curve(run: FinishedRun) -> Iterator[str]:
    """Compare the learning curve with the evaluations that metrics.json lists."""
    rows: Any = run.metrics.get("evaluations")
    pairs = [(number(row, "step"), number(row, "miou")) for row in rows] if isinstance(rows, list) else []
    listed = np.array([pair for pair in pairs if all(map(math.isfinite, pair))]).reshape(-1, 2)
    try:
        curve = read_curve(run)
    except ValueError as error:
        yield str(error)
        return
    if curve.shape != listed.shape or not np.allclose(curve, listed, rtol=0, atol=TOLERANCE):
        yield "history.csv: has other evaluations than metrics.json"
