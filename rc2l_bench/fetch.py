"""A source becomes a verified file: mirror first, then its official URL; resumed, checked, and moved in place at once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock

from rc2l_bench.console import console
from rc2l_bench.errors import BenchError, UsageError

MIRROR = "RC2L_BENCH_MIRROR"
"""Environment variable: a folder or a base URL that is asked first, by file name."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that somebody else publishes.

    Attributes:
        name: file name in `data/raw/<dataset>` and on a mirror.
        url: the official address.
        size: bytes; None where the publisher's bytes are not stable.
        checksum: `sha256:<hex>` or `md5:<hex>`; None where the content is verified after extraction.
        licence: one line.
        login: how to get the file by hand, where the publisher wants a login; None = it can be downloaded.
    """

    name: str
    url: str
    size: int | None
    checksum: str | None
    licence: str
    login: str | None = None


def fetch(source: Source, folder: Path, *, in_place: bool = False) -> Path:
    """Brings a source into a folder, or finds it there.

    Args:
        source: what to bring.
        folder: is made when missing.
        in_place: where the mirror is a folder, return the file that lies there instead of a copy.

    Returns:
        A file whose size and checksum are right.

    Raises:
        UsageError: the mirror is a folder that does not exist.
        BenchError: the file is out of reach or wrong everywhere, or must be downloaded by hand.
    """
    from rc2l_bench.download import Unavailable, download, without_password

    target = folder / source.name
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / f"{source.name}.lock"):
        if _already_there(source, target):
            return target
        mirror = _mirror()
        if isinstance(mirror, Path) and (mirror / source.name).is_file():
            return _from_folder(source, mirror / source.name, target, in_place=in_place)
        addresses = [] if source.login else [source.url]
        if isinstance(mirror, str):
            addresses.insert(0, f"{mirror}/{source.name}")
        reasons = []
        for address in addresses:
            try:
                download(source, address, target)
            except Unavailable as error:
                reasons.append(str(error))
                continue
            _stamp(source, target)
            return target
        raise BenchError(_out_of_reach(source, folder, reasons, without_password(str(mirror)) if mirror else None))


def verify(source: Source, path: Path) -> None:
    """Checks size and checksum of a file by reading all of it, and stamps it.

    Raises:
        BenchError: the file is missing or is not the source; it stays where it is.
    """
    if not path.is_file():
        raise BenchError(f"{path}: missing: fetch it with `rc2l-bench data fetch`")
    fault = fault_of(source, path)
    if fault:
        raise BenchError(f"{path}: {fault}: delete it and fetch it again")
    _stamp(source, path)


def fault_of(source: Source, path: Path) -> str | None:
    """What is wrong with a file, as `expected …, got …`; None = it is the source."""
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        return f"expected {source.size} bytes, got {size}"
    if source.checksum is None:
        return None
    got = checksum(path, source.checksum.partition(":")[0])
    return None if got == source.checksum else f"expected {source.checksum}, got {got}"


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """`<algorithm>:<hex>` of a file's bytes."""
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def is_stamped(source: Source, path: Path) -> bool:
    """Whether a file was verified before and has not been touched since; does not read the file."""
    try:
        state = path.stat()
        stamp = json.loads(_stamp_of(path).read_text())
    except (OSError, ValueError):
        return False
    return bool(stamp == {"size": state.st_size, "mtime_ns": state.st_mtime_ns, "checksum": source.checksum})


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds a lock file, so that two processes do not write the same thing; the second one waits."""
    lock = FileLock(path)
    if lock_is_held(lock):
        console.print(f"another process works on {path.with_suffix('').name}: waiting for it")
    with lock:
        yield


def lock_is_held(lock: FileLock) -> bool:
    """Whether another process holds a lock at this moment."""
    from filelock import Timeout

    try:
        with lock.acquire(blocking=False):
            return False
    except Timeout:
        return True


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a small file so that it is there as a whole or not at all; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with part.open("wb") as file:
            file.write(data)
            sync(file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sync(file: IO[bytes]) -> None:
    """Brings a file's bytes to the disk."""
    file.flush()
    os.fsync(file.fileno())


def _already_there(source: Source, target: Path) -> bool:
    """True for a good file; a wrong one is removed, unless it was put there by hand."""
    if not target.is_file():
        return False
    if is_stamped(source, target):
        return True
    fault = fault_of(source, target)
    if fault is None:
        _stamp(source, target)
        return True
    if source.login:
        raise BenchError(f"{target}: {fault}: download it again. {source.login}")
    console.print(f"{target}: {fault}: removed")
    target.unlink()
    return False


def _from_folder(source: Source, found: Path, target: Path, *, in_place: bool) -> Path:
    fault = fault_of(source, found)
    if fault:
        raise BenchError(f"{found}: {fault}: replace or remove this file of the mirror")
    if in_place:
        return found
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(found, part)  # an archive of many GB is not kept twice on one disk
    except OSError:
        shutil.copyfile(found, part)
    part.replace(target)
    _stamp(source, target)
    return target


def _mirror() -> Path | str | None:
    value = os.environ.get(MIRROR, "").strip()
    if value.startswith(("http://", "https://")):
        return value.rstrip("/")
    if value and not Path(value).is_dir():
        raise UsageError(f"{MIRROR}={value}: no such folder: name a folder or a http(s) address, or unset it")
    return Path(value) if value else None


def _out_of_reach(source: Source, folder: Path, reasons: list[str], mirror: str | None) -> str:
    size = f" ({source.size:,} bytes)" if source.size else ""
    if source.login:
        return f"{source.name}{size} needs a login: {source.login} Put it into {folder} or into a mirror ({MIRROR})"
    tried = "; ".join(reasons) + (f"; not in the mirror {mirror}" if mirror and len(reasons) < 2 else "")
    return f"{source.name}{size} is out of reach: {tried}. Put it into {folder}, or into a folder named by {MIRROR}"


def _stamp_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.ok")


def _stamp(source: Source, path: Path) -> None:
    """Remembers that a file is good, so that 11 GB are not read at every start."""
    state = path.stat()
    stamp = {"size": state.st_size, "mtime_ns": state.st_mtime_ns, "checksum": source.checksum}
    write_atomically(_stamp_of(path), json.dumps(stamp).encode())
