"""Finished runs, read from their folders. Whatever is missing or broken becomes a remark, never an exception.

Every file is compared with its hash in run.json, which has one of its own, when it is read.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from rc2l_bench.config import Draws
from rc2l_bench.console import describe
from rc2l_bench.metrics import Absent, Floats, areas_of, mean_iou
from rc2l_bench.readers import ArrayForm, DamagedFileError, parse_arrays, parse_json, parse_picture, reading
from rc2l_bench.schema import first_fault
from rc2l_bench.seals import RECORD, read_listed, read_record
from rc2l_bench.variants import UNTUNED, method_of

if TYPE_CHECKING:
    import pandas as pd

Json = dict[str, Any]
Channel = Annotated[int, Field(ge=0, le=255)]
COUNTS = ArrayForm("int32", 3)
"""Of confusion.npz: (N, K, K) pixels of N images by true and predicted class."""
IDS = ArrayForm("U", 1)
"""Of confusion.npz: the ids of the N images."""


class Cell(NamedTuple):
    """What was run: dataset × split × method × seed."""

    dataset: str
    split: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.dataset}/{self.split}/{self.method}/seed{self.seed}"


class Remark(NamedTuple):
    """Something that a reader of the report must know."""

    where: str
    text: str


class _Dataset(BaseModel):
    classes: Annotated[list[str], Field(min_length=1, max_length=255)]
    palette: list[tuple[Channel, Channel, Channel]]


class _Split(BaseModel):
    id: str
    draws: Draws
    unlabelled_id: str
    labelled: int
    unlabelled: int


class _Eval(BaseModel):
    absent: Absent


class _Protocol(BaseModel):
    eval: _Eval


class _Record(BaseModel):
    """What the report relies on in run.json; there may be more."""

    fingerprint: str
    dataset: _Dataset
    split: _Split
    shards: dict[str, str | None]
    protocol: _Protocol
    method_config: dict[str, object]


@dataclass(frozen=True)
class FinishedRun:
    """One run as found on disk.

    Attributes:
        cell: from the folder's name, checked against run.json.
        folder: where it lies.
        metrics: metrics.json.
        cost: cost.json, empty if it is missing.
        record: run.json, checked to hold what the report relies on.
        files: sha256 by name of what the run left behind.
    """

    cell: Cell
    folder: Path
    metrics: Json
    cost: Json
    record: Json = field(repr=False)
    files: Mapping[str, str] = field(repr=False)

    @property
    def miou(self) -> float:
        """Final mIoU on val, 0..1; nan if the file holds anything else."""
        return _share(self.metrics, "miou")

    @property
    def miou_best(self) -> float:
        """The best mIoU on val of all evaluations, chosen by looking at val; nan if unknown."""
        return _share(self.metrics, "miou_best")

    @property
    def absent(self) -> Absent:
        """What a class without truth counts for, as the protocol says."""
        rule: Absent = self.record["protocol"]["eval"]["absent"]
        return rule

    @property
    def draws(self) -> Draws:
        """What another seed would have changed in the labels."""
        draws: Draws = self.record["split"]["draws"]
        return draws

    @property
    def averaged_classes(self) -> tuple[str, ...]:
        """The classes that the mIoU on val is the mean over."""
        return tuple(self.metrics.get("averaged_classes") or ())

    @property
    def miou_test(self) -> float:
        """Final mIoU on test; nan if the dataset has no labelled test part."""
        return _share(self.metrics, "test", "miou")

    def iou(self) -> dict[str, float]:
        """Return the final IoU on val by class; nan for classes that are left out."""
        table = self.metrics.get("iou")
        return {str(name): number(table, name) for name in table} if isinstance(table, dict) else {}


class PanelFiles(NamedTuple):
    """One validation image with its truth and its prediction: names of files of a run."""

    id: str
    run: FinishedRun
    image: str
    truth: str
    prediction: str


def number(table: object, *keys: str) -> float:
    """A number somewhere inside nested dictionaries; nan if there is none."""
    for key in keys:
        table = table.get(key) if isinstance(table, dict) else None
    if not isinstance(table, int | float) or isinstance(table, bool):
        return math.nan
    try:
        return float(table)
    except OverflowError:  # JSON knows whole numbers of any size
        return math.nan


def _share(table: object, *keys: str) -> float:
    value = number(table, *keys)
    return value if 0 <= value <= 1 else math.nan


def find(root: Path) -> tuple[list[FinishedRun], list[Remark]]:
    """Reads every run under a folder `<dataset>/<split>/<method id>/seed<k>`.

    Returns:
        The readable runs in the order of their cells, and what is wrong with the others.
    """
    runs: list[FinishedRun] = []
    remarks: list[Remark] = []
    for cell, folder in sorted(_folders(root)):
        try:
            runs.append(read_run(cell, folder, remarks))
        except (OSError, DamagedFileError) as error:
            remarks.append(Remark(str(cell), f"left out: {_tell(error, folder)}"))
    return runs, remarks


def _folders(root: Path) -> Iterator[tuple[Cell, Path]]:
    for folder in root.glob("*/*/**/seed*"):
        dataset, split, *method, leaf = folder.relative_to(root).parts
        seed = leaf.removeprefix("seed")
        if method and seed.isdecimal() and folder.is_dir():
            yield Cell(dataset, split, method_of("/".join(method)), int(seed)), folder


def read_run(cell: Cell, folder: Path, remarks: list[Remark]) -> FinishedRun:
    """Read one run.

    Args:
        cell: what it must be.
        folder: where it lies.
        remarks: gets what is wrong with the parts of it that are not necessary.

    Raises:
        OSError: run.json or metrics.json is missing or may not be read.
        DamagedFileError: one of them has changed since it was written, or belongs to another cell.
    """
    record, files = read_record(folder, "run the cell again")
    _check(record, folder / RECORD)
    metrics = _read_json(folder, "metrics.json", files)
    claimed = record.get("cell")
    if claimed != cell._asdict():
        raise DamagedFileError(
            f"{folder / RECORD}: says {claimed}, the folder says {cell}: was it renamed? run the cell again"
        )
    try:
        cost = _read_json(folder, "cost.json", files)
    except (OSError, DamagedFileError) as error:
        cost = {}
        remarks.append(Remark(str(cell), f"no time and memory: {_tell(error, folder)}"))
    run = FinishedRun(cell, folder, metrics, cost, record, files)
    if not math.isfinite(run.miou):
        remarks.append(Remark(str(cell), f"metrics.json holds no mIoU (it says {metrics.get('miou')}): an empty group"))
    return run


def _check(record: Json, path: Path) -> None:
    try:
        _Record.model_validate(record)
    except ValidationError as error:
        raise DamagedFileError(f"{path}: {first_fault(error)}: of another version?") from None


def _read_json(folder: Path, name: str, files: Mapping[str, str]) -> Json:
    data = parse_json(read_listed(folder, name, files), folder / name)
    if not isinstance(data, dict):
        raise DamagedFileError(f"{folder / name}: holds {type(data).__name__}, expected keys and values")
    return data


def _tell(error: OSError | DamagedFileError, folder: Path) -> str:
    """An error in one line, without the folder, which a remark names anyhow."""
    text = describe(error) if isinstance(error, OSError) else str(error)
    return text.removeprefix(f"{folder}/")


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
    """The bytes of one of a run's files; what is wrong with it is a ValueError without the folder."""
    try:
        return read_listed(run.folder, name, run.files)
    except (OSError, DamagedFileError) as error:
        raise DamagedFileError(_tell(error, run.folder)) from None


def read_history(run: FinishedRun) -> pd.DataFrame:
    """history.csv: step, lr, loss, one column per loss, miou (nan but at evaluations).

    Raises:
        ValueError: the file is missing, damaged, has no column `step`, or holds what is no number.
    """
    import pandas as pd

    name = "history.csv"
    data = _read_listed(run, name)
    with reading(name):
        table = pd.read_csv(io.BytesIO(data))
        if "step" not in table:
            raise DamagedFileError(f"{name}: has no column 'step'")
        return table.astype(np.float64)


def panels_of(run: FinishedRun) -> list[PanelFiles]:
    """The complete panels of a run, in order of their names."""
    found = []
    for image in sorted(name for name in run.files if name.startswith("panels/") and name.endswith(".image.png")):
        stem = image.removesuffix(".image.png")
        truth, prediction = (f"{stem}.{kind}.png" for kind in ("truth", "prediction"))
        if truth in run.files and prediction in run.files:
            name = stem.removeprefix("panels/")
            found.append(PanelFiles(name.partition("-")[2] or name, run, image, truth, prediction))
    return found


def read_picture(run: FinishedRun, name: str) -> NDArray[np.uint8]:
    """The pixels of one of a run's PNGs: (H, W) class indices, or (H, W, 3).

    Raises:
        ValueError: the file is missing, damaged or absurdly large.
    """
    return parse_picture(_read_listed(run, name), name)


def tuning_by_method(runs: Iterable[FinishedRun]) -> dict[str, str]:
    """How the methods of some runs were tuned, in a few words: `untuned`, or `16 trials`."""
    parts = {run.cell.method: run.record.get("tuning") or {} for run in runs}
    return {
        method: f"{part.get('trials')} trials" if part.get("status") == "tuned" else UNTUNED
        for method, part in parts.items()
    }
