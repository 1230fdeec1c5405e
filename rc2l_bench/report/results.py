"""Finished runs, read from their folders. Whatever is missing or broken becomes a remark, never an exception.

Every file is compared with its hash in run.json, which has one of its own, when it is read. The larger files are read
by `run_files`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from rc2l_bench.config import Draws
from rc2l_bench.console import describe
from rc2l_bench.metrics import Absent
from rc2l_bench.readers import DamagedFileError, parse_json
from rc2l_bench.schema import first_fault
from rc2l_bench.seals import RECORD, read_listed, read_record
from rc2l_bench.variants import UNTUNED, method_of

Json = dict[str, Any]
Channel = Annotated[int, Field(ge=0, le=255)]


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
    unlabelled: int | None


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
        names = self.metrics.get("averaged_classes")
        return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()

    @property
    def miou_test(self) -> float:
        """Final mIoU on test; nan if the dataset has no labelled test part."""
        return _share(self.metrics, "test", "miou")

    def iou(self) -> dict[str, float]:
        """Return the final IoU on val by class; nan for classes that are left out."""
        table = self.metrics.get("iou")
        return {str(name): number(table, name) for name in table} if isinstance(table, dict) else {}


def number(table: object, *keys: str) -> float:
    """Find a number somewhere inside nested dictionaries; nan if there is none."""
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
    """Read every run under a folder `<dataset>/<split>/<method id>/seed<k>`.

    Returns:
        The readable runs in the order of their cells, and what is wrong with the others.
    """
    runs: list[FinishedRun] = []
    remarks: list[Remark] = []
    for cell, folder in sorted(find_folders(root)):
        try:
            runs.append(read_run(cell, folder, remarks))
        except (OSError, DamagedFileError) as error:
            remarks.append(Remark(str(cell), f"left out: {tell(error, folder)}"))
    return runs, remarks


def find_folders(root: Path) -> Iterator[tuple[Cell, Path]]:
    """Find the folders of runs, `<dataset>/<split>/<method id>/seed<k>`, whatever is in them."""
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
        remarks.append(Remark(str(cell), f"no time and memory: {tell(error, folder)}"))
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


def tell(error: OSError | DamagedFileError, folder: Path) -> str:
    """Tell an error in one line, without the folder, which a remark names anyhow."""
    text = describe(error) if isinstance(error, OSError) else str(error)
    return text.removeprefix(f"{folder}/")


def tuning_by_method(runs: Iterable[FinishedRun]) -> dict[str, str]:
    """Tell how the methods of some runs were tuned, in a few words: `untuned`, or `16 trials`."""
    parts = {run.cell.method: run.record.get("tuning") for run in runs}
    tuned = {method: part for method, part in parts.items() if isinstance(part, dict) and part.get("status") == "tuned"}
    return {method: f"{tuned[method].get('trials')} trials" if method in tuned else UNTUNED for method in parts}
