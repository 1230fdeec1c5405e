"""The larger files of a finished run, each compared with its hash when read: counts, learning curve, pictures."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rc2l_bench.metrics import Floats, areas_of, mean_iou
from rc2l_bench.readers import ArrayForm, DamagedFileError, parse_arrays, parse_picture, parse_rows, parse_text, reading
from rc2l_bench.report.results import FinishedRun, tell
from rc2l_bench.seals import read_listed

COUNTS = ArrayForm("int32", 3)
"""Of confusion.npz: (N, K, K) pixels of N images by true and predicted class."""
IDS = ArrayForm("U", 1)
"""Of confusion.npz: the ids of the N images."""


class PanelFiles(NamedTuple):
    """One validation image with its truth and its prediction: names of files of a run."""

    id: str
    run: FinishedRun
    image: str
    truth: str
    prediction: str


def read_areas(run: FinishedRun, part: str = "val") -> tuple[tuple[str, ...], Floats]:
    """Read intersection, union and truth per image and class from confusion.npz.

    Returns:
        The ids of the images, and (N, 3, K) pixels.

    Raises:
        ValueError: the file is missing, damaged, of the wrong shape, or contradicts metrics.json.
    """
    name, wanted = "confusion.npz", {part: COUNTS, f"{part}_ids": IDS}
    found = parse_arrays(_read_listed(run, name), name, wanted)
    confusion, ids = found[part], found[f"{part}_ids"]
    classes = len(run.record["dataset"]["classes"])
    if confusion.shape != (len(ids), classes, classes) or not len(ids):
        raise ValueError(f"{name} holds {confusion.shape} counts of {len(ids)} images with {classes} classes")
    if confusion.min() < 0:
        raise ValueError(f"{name} holds negative counts")
    areas = areas_of(confusion)
    counted = float(mean_iou(areas.sum(0), run.absent))
    if part == "val" and math.isfinite(run.miou) and not math.isclose(counted, run.miou, abs_tol=1e-4):
        raise ValueError(f"confusion.npz gives mIoU {counted:.4f}, metrics.json says {run.miou:.4f}")
    return tuple(str(i) for i in ids), areas


def _read_listed(run: FinishedRun, name: str) -> bytes:
    """Read the bytes of one of a run's files; what is wrong with it is a ValueError without the folder."""
    try:
        return read_listed(run.folder, name, run.files)
    except (OSError, DamagedFileError) as error:
        raise DamagedFileError(tell(error, run.folder)) from None


def read_curve(run: FinishedRun, score: str = "miou") -> Floats:
    """Read the evaluations in history.csv.

    Not by pandas, whose table of all losses takes several times as long: reports have thousands of runs.

    Args:
        run: the run.
        score: `miou` of val, or `pseudo_miou`, which methods without pseudo-labels do not have.

    Returns:
        (E, 2): step and mIoU in [0, 1] of every evaluation; without rows where the run has no such score.

    Raises:
        ValueError: the file is missing, damaged, has no columns `step` and `miou`, or holds what is no number there.
    """
    name = "history.csv"
    head, *rows = parse_rows(parse_text(_read_listed(run, name), name), name) or [[]]
    if missing := [column for column in ("step", "miou") if column not in head]:
        raise DamagedFileError(f"{name}: has no column '{missing[0]}'")
    if score not in head:
        return np.empty((0, 2))
    step, column = head.index("step"), head.index(score)
    with reading(name):
        pairs = [(float(row[step]), float(row[column])) for row in rows if row and row[column]]
    return np.array([pair for pair in pairs if all(map(math.isfinite, pair))]).reshape(-1, 2)


def panels_of(run: FinishedRun) -> list[PanelFiles]:
    """Find the complete panels of a run, in order of their names; evidence may lack some of those that it lists."""
    found = []
    for image in sorted(name for name in run.files if name.startswith("panels/") and name.endswith(".image.png")):
        stem = image.removesuffix(".image.png")
        truth, prediction = (f"{stem}.{kind}.png" for kind in ("truth", "prediction"))
        if all(name in run.files and (run.folder / name).is_file() for name in (image, truth, prediction)):
            name = stem.removeprefix("panels/")
            found.append(PanelFiles(name.partition("-")[2] or name, run, image, truth, prediction))
    return found


def read_picture(run: FinishedRun, name: str) -> NDArray[np.uint8]:
    """Read the pixels of one of a run's PNGs: (H, W) class indices, or (H, W, 3).

    Raises:
        ValueError: the file is missing, damaged or absurdly large.
    """
    return parse_picture(_read_listed(run, name), name)
