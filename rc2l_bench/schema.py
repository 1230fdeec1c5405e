"""Typed YAML: strict models, and errors that say in one line what is wrong and where."""

from __future__ import annotations

import copy
import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from rc2l_bench.errors import UsageError, suggest
from rc2l_bench.readers import FAULTS, DamagedFileError, read_text, reading


class Model(BaseModel):
    """Base of every configuration: frozen, strict, no unknown keys, no values that are not written down."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Rewrite what a file holds before it is checked; a ValueError is told like one of the check itself.

        Not a validator of pydantic: what one returns is no longer JSON to it, and strict mode then refuses lists for
        tuples.
        """
        return data


M = TypeVar("M", bound=Model)

MOST_BYTES = 1 << 19
"""Of a YAML file; ours have ten thousand. A parser in Python takes some seconds for so many."""
MOST_NODES = 100_000
"""Values in a YAML file; ours have some hundred."""
DEPTH = 32
"""Levels in a YAML file; ours have five."""


def read_yaml(path: Path) -> Any:  # noqa: ANN401 - YAML holds anything
    """Read YAML as DVC does (YAML 1.2), so that both see the same numbers.

    Raises:
        UsageError: the file is missing, no text in UTF-8, no YAML, nested deeper than `DEPTH`, or its aliases stand for
            more than `MOST_NODES` values.
    """
    try:
        text = read_text(path, MOST_BYTES)
    except FileNotFoundError:
        raise UsageError(f"{path}: cannot be read (no such file): is this the root of a checkout?") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except DamagedFileError as error:
        raise UsageError(str(error)) from None
    try:
        with reading("not valid YAML"):
            return copy.deepcopy(_parse(text))
    except YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {_describe(error)[:300]}") from None
    except DamagedFileError as error:
        raise UsageError(f"{path}: {error}") from None


def _describe(error: YAMLError) -> str:
    """What is wrong and where, without advice on how not to be told."""
    if isinstance(error, MarkedYAMLError) and error.problem and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {' '.join(error.problem.split())}"
    return " ".join(str(error).split())


@lru_cache(maxsize=64)
def _parse(text: str) -> Any:  # noqa: ANN401 - YAML holds anything
    """What a text says. Kept, because the stages of a grid ask for the same few files hundreds of times."""
    data = YAML(typ="safe").load(io.StringIO(text))
    _count(data, DEPTH)
    return data


def _count(data: Any, depth: int) -> int:  # noqa: ANN401 - YAML holds anything
    """Count values, those behind aliases as often as they are named: ten lines of aliases can stand for gigabytes."""
    if not isinstance(data, dict | list):
        return 1
    if depth == 0:
        raise ValueError(f"nested more than {DEPTH} deep, or holds itself")
    total = 1
    for value in data.values() if isinstance(data, dict) else data:
        total += _count(value, depth - 1)
        if total > MOST_NODES:
            raise ValueError(f"holds more than {MOST_NODES:,} values")
    return total


def first_fault(error: ValidationError) -> str:
    """Describe the first thing that is wrong with a document that a program wrote: where, and what."""
    first = error.errors()[0]
    return f"{_place(first['loc']) or 'top level'}: {_words(first['msg'])}"


def _place(loc: tuple[int | str, ...]) -> str:
    return _one_line(".".join(map(str, loc)))


def _words(message: str) -> str:
    """What pydantic says, which may quote what was written, as a piece of a line."""
    return _one_line(message.removeprefix("Value error, "))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def _explain(path: Path, error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing that is wrong, in one line. A misspelt key comes before the one that it leaves missing."""
    found = error.errors()
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    where = _place(first["loc"])
    text = f"{path}: {where or 'top level'}: {_words(first['msg'])}"
    if first["type"] == "extra_forbidden":
        text = f"{path}: {where}: unknown key; {suggest(str(first['loc'][-1]), _keys_at(model, first['loc'][:-1]))}"
    elif first["type"] == "string_type" and isinstance(first["input"], int):
        text += f", got the number {first['input']}: YAML reads an unquoted 1_16 as 116, so write names in quotes"
    elif first["type"] not in ("missing", "value_error"):
        text += f", got {json.dumps(first['input'])[:80]}"
    more = len(found) - 1
    return text + (f" (and {more} more)" if more else "")


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the model that stands at a place inside another, looking through dicts, lists, unions."""
    inner = [model]
    for part in loc:
        annotations = [m.model_fields[str(part)].annotation for m in inner if str(part) in m.model_fields]
        inner = [found for annotation in annotations for found in _models_in(annotation)] or inner
    return [name for found in inner for name in found.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - annotations are of any kind
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


def load(model: type[M], path: Path) -> M:
    """Reads and checks a YAML file.

    Args:
        model: the type that says which keys there are, and their ranges.
        path: the file.

    Raises:
        UsageError: the file is missing, not YAML, has unknown, missing, mistyped or absurd values.
    """
    return check(model, read_yaml(path), path)


def check(model: type[M], data: Any, path: Path) -> M:  # noqa: ANN401 - YAML holds anything
    """Checks what was read from a YAML file.

    Args:
        model: the type that says which keys there are, and their ranges.
        data: the content.
        path: where it was read, for messages.

    Raises:
        UsageError: unknown, missing, mistyped or absurd values.
    """
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected keys and values, got {type(data).__name__}")
    try:
        data = model.prepare(data)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    try:
        # Through JSON, because strict mode takes a list for a tuple there and nowhere else.
        text = json.dumps(data)
    except FAULTS as error:
        raise UsageError(
            f"{path}: only text, numbers, true, false, lists and keys are meant to be here: {error}"
        ) from None
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise UsageError(_explain(path, error, model)) from None
