"""Local copies of whole shards from far away, as far as there is room for them; see `remote.Remote`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from rc2l_bench.console import describe
from rc2l_bench.data import remote
from rc2l_bench.data.addresses import is_remote, join, with_environment, without_secrets
from rc2l_bench.data.index import Index
from rc2l_bench.data.partial_files import PartialFile
from rc2l_bench.data.ranges import open_system
from rc2l_bench.errors import BenchError, one_line
from rc2l_bench.files import exclusive, say

_CHUNK = 1 << 20


def mirror_all(indexes: Sequence[Index], room: int) -> None:
    """Copy the shards of several indexes, as far as they lie far away and there is room for them; see `mirror`."""
    far = [index for index in indexes if index.base is not None and is_remote(index.base)]
    places = {remote.copies_of(str(index.base)) for index in far}
    for index in far:
        mirror(index, room, places - {remote.copies_of(str(index.base))})


def mirror(index: Index, room: int, keep: Collection[Path] = ()) -> bool:
    """Copy the shards of an index, unless they are near, or too large together; what was begun is continued.

    Copies of other addresses make room, the longest unused first. They may be removed while somebody reads
    them, who then reads from far away.

    Args:
        index: whose `base` is an address.
        room: bytes that all copies may take.
        keep: folders of other copies that are wanted, too, and stay.

    Returns:
        Whether all of them are here. Where one cannot be had, that is said, and pieces are read from far away.
    """
    assert index.base is not None, index
    folder, total = remote.copies_of(index.base), sum(shard.size for shard in index.shards)
    missing = [shard for shard in index.shards if not _is_there(folder / shard.name, shard.size)]
    if missing and not _make_room(folder, total, room, keep):
        return False
    if missing:
        say(f"{without_secrets(index.base)}: {len(missing)} shards are copied to {folder}, {total / 1e9:.1f} GB in all")
    for shard in missing:
        try:
            copy_file(join(index.base, shard.name), folder / shard.name, shard.size)
        except (BenchError, OSError) as error:  # a full disk, or copies that another run has just removed
            text = describe(error) if isinstance(error, OSError) else error
            say(f"{text}; not copied: its images are read from there, one by one")
            return False
    return True


def copy_file(address: str, target: Path, size: int | None) -> None:
    """Copy one file; what a copy before this one left is continued.

    Args:
        address: of the file.
        target: where to; appears when it is whole.
        size: bytes that it has; None = unknown.

    Raises:
        BenchError: it cannot be had, or has another size.
    """
    with exclusive(target):
        if target.is_file():  # another process was faster
            return
        part = PartialFile(target)
        part.begin()
        try:
            _transfer(address, part, size)
        except BenchError:
            part.leave()
            raise
        part.finish()


def _transfer(address: str, part: PartialFile, size: int | None) -> None:
    if not address.startswith(("http://", "https://")):
        _copy_by_fsspec(address, part, size)
        return
    from rc2l_bench.data.download import download

    # Continued without a checksum of the whole: every sample has its own, and is compared when it is read.
    download(with_environment(address), part, size=size, resume=True)


def _copy_by_fsspec(address: str, part: PartialFile, size: int | None) -> None:
    for attempt in range(1, remote.TRIES + 1):
        try:
            system, path = open_system(with_environment(address))
            _append(system, path, part.path)
            break
        except Exception as error:  # every file system has errors of its own
            if attempt == remote.TRIES or isinstance(error, BenchError | FileNotFoundError | PermissionError):
                reason = without_secrets(one_line(error))[:160]
                raise BenchError(f"{without_secrets(address)}: {type(error).__name__}: {reason}") from None
            time.sleep(remote.PAUSE * 2 ** (attempt - 1))
    if size is not None and part.size != size:
        fault = f"expected {size} bytes, got {part.size}"
        part.discard(fault)
        raise BenchError(f"{without_secrets(address)}: {fault}")


def _append(system: Any, path: str, part: Path) -> None:  # noqa: ANN401 - fsspec has no types
    with system.open(path, "rb") as source, part.open("ab") as file:
        source.seek(file.tell())
        while chunk := source.read(_CHUNK):
            file.write(chunk)


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _make_room(folder: Path, total: int, room: int, keep: Collection[Path]) -> bool:
    """Whether so many bytes may lie in a folder, after older copies are removed for them."""
    folder.mkdir(parents=True, exist_ok=True)
    here = _size(folder)
    room -= sum(map(_size, keep))
    if total > room or total - here > shutil.disk_usage(folder).free:
        return False
    stay = {folder, *keep}
    others = sorted((other for other in remote.COPIES.iterdir() if other.is_dir() and other not in stay), key=_used)
    sizes = {other: _size(other) for other in others}
    for other in others:
        if sum(sizes.values()) + total <= room:
            break
        say(f"{other}: removed to make room for other copies")
        shutil.rmtree(other, ignore_errors=True)
        del sizes[other]
    return True


def size_of_copies(base: str) -> int:
    """Bytes of the copies of what lies under an address."""
    return _size(remote.copies_of(base))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _used(folder: Path) -> float:
    """When something in a folder was read or written last."""
    return max((max(path.stat().st_atime, path.stat().st_mtime) for path in folder.rglob("*")), default=0.0)
