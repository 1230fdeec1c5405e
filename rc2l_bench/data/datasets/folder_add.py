"""Writing `datasets/<name>.yaml` for the user."""

from __future__ import annotations

import io
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from rc2l_bench.data.datasets.folder import Folder
from rc2l_bench.data.datasets.registry import BUILT_IN, FOLDER
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.files import write_atomically


def add_folder(name: str, description: Mapping[str, Any]) -> tuple[Path, dict[str, int], str | None]:
    """Check a description against the files on the disk and write it down.

    Args:
        name: of the new data set.
        description: the keys of `FolderConfig`.

    Returns:
        The yaml, the number of images of each part, and which files are not used, in one line.

    Raises:
        UsageError: the name is taken or unusable, or the description is wrong; nothing is written then.
    """
    path = check_name(name)
    text = io.StringIO()
    YAML(typ="rt").dump(dict(description), text)
    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch) / path.name
        trial.write_text(text.getvalue(), encoding="utf-8")
        try:
            folder = Folder(trial)
            counts, left = Counter(folder.parts.values()), folder.left()
        except BenchError as error:
            raise type(error)(str(error).replace(str(trial), f"{name}.yaml")) from None
    write_atomically(path, text.getvalue().encode())
    return path, dict(sorted(counts.items())), left


def check_name(name: str) -> Path:
    """Make sure that a new data set may have a name.

    Returns:
        Where its description belongs.

    Raises:
        UsageError: the name is taken or unusable.
    """
    path = FOLDER / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UsageError(
            f"'{name}' cannot be the name of a dataset: letters, digits, _ . - only, a letter or digit first"
        )
    if name in BUILT_IN or path.exists():
        raise UsageError(
            f"there is a dataset '{name}' already: choose another name" + f", or edit {path}" * path.exists()
        )
    return path


def listed(text: str) -> list[str]:
    """`a, b` -> [a, b]; nothing for an empty text."""
    return [part.strip() for part in text.split(",")] if text.strip() else []


def colours_of(text: str) -> list[list[int]]:
    """`#ff0000,#00ff00` -> red, green, blue of each.

    Raises:
        UsageError: one is not written so.
    """
    found = []
    for part in listed(text):
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", part):
            raise UsageError(f"'{part}' is not a colour: write it as #rrggbb")
        found.append(list(bytes.fromhex(part[1:])))
    return found


def values_of(text: str) -> dict[int, str]:
    """`7=road, 11=building` -> class by mask value.

    Raises:
        UsageError: one is not written so.
    """
    found = {}
    for part in listed(text):
        value, equals, name = part.partition("=")
        if not (equals and value.strip().isdecimal() and name.strip()):
            raise UsageError(f"'{part}' is not a mask value and its class: write 7=road")
        found[int(value)] = name.strip()
    return found


def indices_of(text: str) -> list[int]:
    """`11, 12` -> the numbers.

    Raises:
        UsageError: one is not a whole number.
    """
    for part in listed(text):
        if not part.isdecimal():
            raise UsageError(f"'{part}' is not a mask value: write whole numbers from 0 to 255 with commas between")
    return [int(part) for part in listed(text)]
