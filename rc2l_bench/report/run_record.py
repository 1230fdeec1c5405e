"""What a report relies on in run.json, typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from rc2l_bench.config import Draws
from rc2l_bench.metrics import Absent
from rc2l_bench.readers import DamagedFileError
from rc2l_bench.schema import first_fault

Channel = Annotated[int, Field(ge=0, le=255)]


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


def check_record(record: dict[str, Any], path: Path) -> None:
    """Make sure that a record holds all that a report relies on.

    Args:
        record: content of run.json.
        path: what to call it.

    Raises:
        DamagedFileError: something is missing or of another type.
    """
    try:
        _Record.model_validate(record)
    except ValidationError as error:
        raise DamagedFileError(f"{path}: {first_fault(error)}: of another version?") from None
