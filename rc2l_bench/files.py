"""Files that are there as a whole or not at all, one writer at a time, and nothing left behind by killed processes."""

from __future__ import annotations

import filecmp
import functools
import hashlib
import itertools
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from rc2l_bench.console import errors
from rc2l_bench.errors import UsageError

MADE = ".rc2l-bench"
"""Lists the folders beside it that this program made and may replace."""
_NUMBERS = itertools.count()
_TEMPORARY = re.compile(r"\..+\.(?P<host>[0-9a-f]{8})-(?P<process>[0-9]+)-[0-9]+\.tmp", re.DOTALL)


def require_checkout(root: Path = Path()) -> None:
    """Make sure that a folder is the root of a checkout, before anything is written into it.

    Raises:
        UsageError: it is not.
    """
    if not (root / "dvc.yaml").is_file():
        raise UsageError(
            f"{root.resolve()}: there is no dvc.yaml here: run this in the root of a checkout of rc2l-bench, or of a "
            "study, which rc2l-bench init makes"
        )


def say(text: str) -> None:
    """Tell what is going on, in one line on stderr; nothing in it is markup."""
    errors.print(text, markup=False)


def temporary_name(path: Path) -> Path:
    """Make up a name beside a path for what is not whole yet. It says which process writes it, so that others know."""
    return path.with_name(f".{path.name}.{host_id()}-{os.getpid()}-{next(_NUMBERS)}.tmp")


@functools.cache
def host_id() -> str:
    """Where process numbers are those of this process: the host, and on Linux the container."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def sweep(folder: Path) -> None:
    """Remove from a folder what processes of this machine wrote under temporary names before they were killed."""
    for rest in folder.glob(".*.tmp"):
        match = _TEMPORARY.fullmatch(rest.name)
        # A number that was given to another process since looks alive; then the next sweep removes it.
        if match is None or match["host"] != host_id() or _is_alive(int(match["process"])):
            continue
        if rest.is_dir() and not rest.is_symlink():
            shutil.rmtree(rest, ignore_errors=True)
        else:
            rest.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name beside it and rename it; missing folders are made.

    Raises:
        OSError: the disk is full or the folder may not be written to; what was there before stays.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        part = temporary_name(path)
        try:
            with part.open("xb") as file:
                file.write(data)
                sync(file)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def replace_folder(path: Path, fill: Callable[[Path], None], sign: str | None = None) -> None:
    """Fill a folder beside its place and move it there when it is whole, over what an earlier call left there.

    A folder that somebody else made is never emptied: it keeps its files under another name.

    Args:
        path: the folder.
        fill: writes the contents into the folder that it is given.
        sign: a file that every folder of this kind holds, by which an earlier one is known; None = note in
            `.rc2l-bench` beside the folder that this program made it.

    Raises:
        OSError: the disk is full or the folder may not be written to; what was there before stays.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        part, old = temporary_name(path), temporary_name(path)
        try:
            part.mkdir()
            fill(part)
            for file in part.rglob("*"):
                if file.is_file():
                    with file.open("rb") as written:
                        sync(written)
            if path.exists() and not is_ours(path, sign):
                set_aside(path, "not made by rc2l-bench")
            if path.exists():
                path.replace(old)
            part.replace(path)
            if sign is None:
                _note_ours(path)
        finally:
            for rest in (part, old):
                shutil.rmtree(rest, ignore_errors=True)


def is_ours(path: Path, sign: str | None) -> bool:
    """Tell whether a folder is empty or was made by this program; for `sign` see `replace_folder`."""
    if path.is_dir() and not any(path.iterdir()):
        return True
    return (path / sign).is_file() if sign else path.name in _made_beside(path)


def _made_beside(path: Path) -> list[str]:
    try:
        return path.with_name(MADE).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return []


def _note_ours(path: Path) -> None:
    made = _made_beside(path)
    if path.name not in made:
        write_atomically(path.with_name(MADE), "".join(f"{name}\n" for name in sorted([*made, path.name])).encode())


def set_aside(path: Path, fault: str) -> None:
    """Move a file or folder that is in the way to a name beside it, and say so: somebody else may have brought it."""
    names = (f"{path.name}.wrong{number or ''}" for number in itertools.count())
    kept = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    path.rename(kept)
    say(f"{path}: {fault}: kept as {kept.name}, which you may delete")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give errors of the operating system that name no file (a full disk) the one that is being written."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def link_equal_files(folder: Path, pattern: str) -> None:
    """Replace files by hard links to files of the same name in folders beside theirs that are equal to the byte.

    Nothing changes but the room that they take. Where the file system has no hard links they stay as they are.

    Args:
        folder: whose files are replaced.
        pattern: of the names of the folders beside it.
    """
    for other in sorted(folder.parent.glob(pattern)):
        if other != folder:
            _link_equal_files(folder, other)


def _link_equal_files(folder: Path, other: Path) -> None:
    for file in (path for path in folder.rglob("*") if path.is_file()):
        twin = other / file.relative_to(folder)
        if not twin.is_file() or file.samefile(twin) or not filecmp.cmp(file, twin, shallow=False):
            continue
        part = temporary_name(file)
        try:
            os.link(twin, part)
        except OSError:
            return
        part.replace(file)


def sync(file: IO[bytes]) -> None:
    """Bring the bytes of an open file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """Hash a file's bytes: `<algorithm>:<hex>`."""
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
