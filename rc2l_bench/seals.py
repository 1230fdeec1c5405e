"""Documents that carry their own sha256, and folders whose files are listed in one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from rc2l_bench.readers import DamagedFileError, parse_json, read_bytes

KEY = "sha256"
"""The last key of a sealed document: of all bytes before the comma in front of it."""
RECORD = "run.json"
"""The sealed document of a result."""
FILES = "files"
"""Its key with the sha256 of every other file, by name."""
MOST_FILE = 1 << 30
"""Largest file of a result that is read as a whole, bytes."""
CHANGED = "has changed since it was written"


def seal(content: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Write a document with its own hash.

    Args:
        content: at least one key; ready for JSON, finite numbers only.
        indent: of the lines; None = all in one.
    """
    assert content, "the hash comes after a comma"
    assert KEY not in content, content[KEY]
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    head = text.removesuffix("}").removesuffix("\n").encode()
    return head + _tail(head)


def _tail(head: bytes) -> bytes:
    return f', "{KEY}": "{hashlib.sha256(head).hexdigest()}"}}\n'.encode()


def unseal(data: bytes, path: Path | str, hint: str = "") -> dict[str, Any]:
    """Check and parse what `seal` wrote.

    Args:
        data: the bytes of the document.
        path: what to call it.
        hint: what to do when it is damaged.

    Returns:
        The content, without the hash.

    Raises:
        DamagedFileError: a byte has changed, or there never was a hash.
    """
    more = f": {hint}" if hint else ""
    head = data[: -len(_tail(b""))]
    if head + _tail(head) != data:
        fault = CHANGED if f'"{KEY}"'.encode() in data else "has no hash of its own: cut off, or of an older version"
        raise DamagedFileError(f"{path}: {fault}{more}")
    content: dict[str, Any] = parse_json(data, path)
    del content[KEY]
    return content


def read_record(folder: Path, hint: str = "") -> tuple[dict[str, Any], dict[str, str]]:
    """Read the sealed document of a result.

    Args:
        folder: where the result lies.
        hint: what to do when it is damaged.

    Returns:
        Its content without the list, and the list: sha256 by name.

    Raises:
        OSError: it is missing or may not be read.
        DamagedFileError: it has changed, lists no files, or such that lie elsewhere.
    """
    path = folder / RECORD
    content = unseal(read_bytes(path), path, hint)
    listed = content.pop(FILES, None)
    if not isinstance(listed, dict) or not all(isinstance(digest, str) for digest in listed.values()):
        raise DamagedFileError(f"{path}: lists no files{f': {hint}' if hint else ''}")
    if strange := [name for name in listed if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]:
        raise DamagedFileError(f"{path}: lists a file outside of its folder: {strange[0]}")
    return content, listed


def list_files(folder: Path) -> dict[str, str]:
    """Hash every file of a folder.

    Returns:
        sha256 by path inside the folder, sorted.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _digest(path) for path in files}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path, listed: Mapping[str, str]) -> None:
    """Read every listed file and compare its hash.

    Args:
        folder: where they lie.
        listed: from `list_files`.

    Raises:
        DamagedFileError: one is missing or differs; names the first.
    """
    for name, digest in listed.items():
        path = folder / name
        if not path.is_file():
            raise DamagedFileError(f"{path}: is missing")
        if _digest(path) != digest:
            raise DamagedFileError(f"{path}: {CHANGED}")


def read_listed(folder: Path, name: str, listed: Mapping[str, str], most: int = MOST_FILE) -> bytes:
    """Read one listed file, once, so that what was checked is what is used.

    Raises:
        OSError: it is missing or may not be read.
        DamagedFileError: it is not on the list, differs, or has more than `most` bytes.
    """
    path = folder / name
    data = read_bytes(path, most)
    if listed.get(name) != hashlib.sha256(data).hexdigest():
        raise DamagedFileError(f"{path}: {CHANGED}" if name in listed else f"{path}: is not among the run's files")
    return data
