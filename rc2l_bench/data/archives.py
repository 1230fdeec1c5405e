"""Taking files out of an archive that somebody else made."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from rc2l_bench.errors import BenchError


def extract(archive: Path, folder: Path, target_of: Callable[[str], str | None], limit: int) -> int:
    """Extracts regular files of a tar, compressed or not, in one pass.

    Args:
        archive: the tar.
        folder: nothing is written outside; a file that is there already is never replaced.
        target_of: from a member's name to its path under the folder; None = leave it out.
        limit: largest sum of the extracted files, bytes.

    Returns:
        Number of files.

    Raises:
        BenchError: a wanted member is no regular file, leads outside, or is there twice; the sum is over the limit;
            the archive is damaged.
    """
    count = total = 0
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                name = None if member.isdir() else target_of(member.name)
                if name is None:
                    continue
                target = _target(archive, folder, member, name)
                total += member.size
                if total > limit:
                    raise BenchError(f"{archive}: holds more than the expected {limit} bytes: not the right archive")
                _write(archive, tar, member, target)
                count += 1
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BenchError(f"{archive}: damaged archive ({error}): fetch it again") from None
    return count


def _target(archive: Path, folder: Path, member: tarfile.TarInfo, name: str) -> Path:
    """Where a member goes."""
    if not member.isreg():
        kind = "a link" if member.issym() or member.islnk() else "a device or pipe"
        raise BenchError(f"{archive}: '{member.name}' is {kind}; only regular files are extracted")
    path, inside = PurePosixPath(name), folder.resolve()
    target = inside.joinpath(path)
    strange = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name
    if strange or target == inside or not target.resolve().is_relative_to(inside):
        raise BenchError(f"{archive}: '{member.name}' leads out of the folder; not extracted")
    return target


def _write(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None, member
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            shutil.copyfileobj(source, file)
    except (FileExistsError, NotADirectoryError):
        raise BenchError(f"{archive}: '{member.name}' is there twice; not extracted") from None
