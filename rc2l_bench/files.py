"""Files that are there as a whole or not at all, and one writer at a time."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from rc2l_bench.console import errors
from rc2l_bench.errors import UsageError


def require_checkout(root: Path = Path()) -> None:
    """Make sure that a folder is the root of a checkout, before anything is written into it.

    Raises:
        UsageError: it is not.
    """
    if not (root / "dvc.yaml").is_file():
        raise UsageError(
            f"{root.resolve()}: there is no dvc.yaml here: run this in the root of a checkout of rc2l-bench"
        )


def say(text: str) -> None:
    """Tell what is going on, in one line on stderr; nothing in it is markup."""
    errors.print(text, markup=False)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name beside it and rename it; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with part.open("wb") as file:
            file.write(data)
            sync(file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def replace_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder beside its place and move it there when it is whole, over what was there.

    Args:
        path: the folder.
        fill: writes the contents into the folder that it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        part.chmod(0o755)
        fill(part)
        for file in part.rglob("*"):
            if file.is_file():
                with file.open("rb") as written:
                    sync(written)
        old = part.with_name(f"{part.name}.old")
        if path.exists():
            path.replace(old)
        part.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def sync(file: IO[bytes]) -> None:
    """Bring the bytes of an open file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """`<algorithm>:<hex>` of a file's bytes."""
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock `<path>.lock`, so that two processes never write the same thing; the second one waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        say(f"{path}: another process works on it; waiting for that one")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
