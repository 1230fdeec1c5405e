"""Finished runs, read from their folders. Whatever is missing or broken becomes a remark, never an exception."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from rc2l_bench.metrics import Absent, Floats, areas_of, mean_iou

Json = dict[str, Any]
T = TypeVar("T")


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
    classes: list[str]
    palette: list[tuple[int, int, int]]


class _Split(BaseModel):
    id: str
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


class PanelFiles(NamedTuple):
    """One validation image with its truth and its prediction."""

    id: str
    image: Path
    truth: Path
    prediction: Path


@dataclass(frozen=True)
class FinishedRun:
    """One run as found on disk.

    Attributes:
        cell: from the folder's name, checked against run.json.
        folder: where it lies.
        metrics: metrics.json.
        cost: cost.json, empty if it is missing.
        record: run.json, checked to hold what the report relies on.
    """

    cell: Cell
    folder: Path
    metrics: Json
    cost: Json
    record: Json = field(repr=False)

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


def number(table: object, *keys: str) -> float:
    """A number somewhere inside nested dictionaries; nan if there is none."""
    for key in keys:
        table = table.get(key) if isinstance(table, dict) else None
    return float(table) if isinstance(table, int | float) and not isinstance(table, bool) else math.nan


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
            runs.append(_read(cell, folder, remarks))
        except (OSError, ValueError) as error:
            remarks.append(Remark(str(cell), f"left out: {_first_line(error)}"))
    return runs, remarks


def _folders(root: Path) -> Iterator[tuple[Cell, Path]]:
    for folder in root.glob("*/*/**/seed*"):
        dataset, split, *method, leaf = folder.relative_to(root).parts
        seed = leaf.removeprefix("seed")
        if method and seed.isdecimal() and folder.is_dir():
            yield Cell(dataset, split, "/".join(method), int(seed)), folder


def _read(cell: Cell, folder: Path, remarks: list[Remark]) -> FinishedRun:
    record = _read_json(folder / "run.json")
    metrics = _read_json(folder / "metrics.json")
    _check(record)
    claimed = record.get("cell")
    if claimed != cell._asdict():
        raise ValueError(f"run.json says {claimed}, the folder says {cell}; was it renamed? FinishedRun the cell again")
    try:
        cost = _read_json(folder / "cost.json")
    except (OSError, ValueError) as error:
        cost = {}
        remarks.append(Remark(str(cell), f"no time and memory: {_first_line(error)}"))
    run = FinishedRun(cell, folder, metrics, cost, record)
    if not math.isfinite(run.miou):
        remarks.append(Remark(str(cell), f"metrics.json holds no mIoU (it says {metrics.get('miou')}): an empty group"))
    return run


def _check(record: Json) -> None:
    try:
        _Record.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"run.json: {where}: {first['msg']}; of another version?") from None


def _read_json(path: Path) -> Json:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.name} is missing; the run has not finished") from None
    except ValueError:
        raise ValueError(f"{path.name} is not valid JSON; half-written?") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path.name} holds {type(data).__name__}, expected keys and values")
    return data


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def read_areas(run: FinishedRun, part: str = "val") -> tuple[tuple[str, ...], Floats]:
    """Read intersection, union and truth per image and class from confusion.npz.

    Returns:
        The ids of the images, and (N, 3, K) pixels.

    Raises:
        ValueError: the file is missing, damaged, of the wrong shape, or contradicts metrics.json.
    """
    confusion, ids = _guard_npz(lambda: _read_npz(run.folder / "confusion.npz", part))
    if confusion.ndim != 3 or confusion.shape[1] != confusion.shape[2] or len(ids) != len(confusion) or not len(ids):
        raise ValueError(f"confusion.npz holds {confusion.shape} counts of {len(ids)} images, expected (N, K, K)")
    areas = areas_of(confusion)
    counted = float(mean_iou(areas.sum(0), run.absent))
    if part == "val" and math.isfinite(run.miou) and not math.isclose(counted, run.miou, abs_tol=1e-4):
        raise ValueError(f"confusion.npz gives mIoU {counted:.4f}, metrics.json says {run.miou:.4f}")
    return tuple(str(i) for i in ids), areas


def _read_npz(path: Path, part: str) -> tuple[NDArray[np.integer], NDArray[np.str_]]:
    with np.load(path, allow_pickle=False) as data:
        return data[part], data[f"{part}_ids"]


def _guard_npz(read: Callable[[], T]) -> T:
    try:
        return read()
    except FileNotFoundError:
        raise ValueError("confusion.npz is missing") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"confusion.npz cannot be read ({_first_line(error)})") from None


def read_history(run: FinishedRun) -> pd.DataFrame:
    """history.csv: step, lr, loss, one column per loss, miou (nan but at evaluations).

    Raises:
        ValueError: the file is missing, damaged, or has no column `step`.
    """
    try:
        table = pd.read_csv(run.folder / "history.csv")
    except FileNotFoundError:
        raise ValueError("history.csv is missing") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"history.csv cannot be read ({_first_line(error)})") from None
    if "step" not in table:
        raise ValueError("history.csv has no column 'step'")
    return table


def panels_of(run: FinishedRun) -> list[PanelFiles]:
    """The complete panels of a run, in order of their names."""
    found = []
    for image in sorted((run.folder / "panels").glob("*.image.png")):
        stem = image.name.removesuffix(".image.png")
        truth, prediction = (image.with_name(f"{stem}.{kind}.png") for kind in ("truth", "prediction"))
        if truth.is_file() and prediction.is_file():
            found.append(PanelFiles(stem.partition("-")[2] or stem, image, truth, prediction))
    return found
