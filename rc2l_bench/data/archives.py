"""Taking files out of an archive that somebody else made."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from rc2l_bench.errors import BenchError
from rc2l_bench.files import naming
from rc2l_bench.readers import reading

AGAIN = "fetch it again"
MOST_HEADER = 1 << 20
"""Bytes of the names and attributes of one member: tarfile reads them as a whole, whatever length they claim."""
MOST_SKIPPED = 4
"""A whole archive may hold this many times the bytes that are wanted of it: what is passed over is unpacked as well,
and a small file can claim years of zeros."""
_LONG_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


class MemberInfo(tarfile.TarInfo):
    """A member whose header is believed only within bounds."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """See tarfile, which offers this method to subclasses."""
        if self.size < 0 or (self.type in _LONG_HEADERS and self.size > MOST_HEADER):
            raise tarfile.ReadError(f"a header of {self.size} bytes, expected at most {MOST_HEADER}")
        found: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return found


def extract(archive: Path, folder: Path, target_of: Callable[[str], str | None], limit: int) -> int:
    """Extract regular files of a tar, compressed or not, in one pass.

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
    count = total = passed = 0
    with reading(archive, AGAIN), tarfile.open(archive, "r:*", tarinfo=MemberInfo) as tar:
        for member in tar:
            passed += member.size
            if passed > MOST_SKIPPED * limit:
                raise BenchError(f"{archive}: holds more than {MOST_SKIPPED * limit} bytes: not the right archive")
            name = None if member.isdir() else target_of(member.name)
            if name is None:
                continue
            target = _target(archive, folder, member, name)
            total += member.size
            if total > limit:
                raise BenchError(f"{archive}: holds more than the expected {limit} bytes: not the right archive")
            _write(archive, tar, member, target)
            count += 1
        _read_end(tar, limit)
    return count


def _read_end(tar: tarfile.TarFile, most: int) -> None:
    """Read what follows the last member: gzip and xz compare their checksums there, and tarfile stops before it."""
    assert tar.fileobj is not None
    read = 1
    while read and most > 0:
        read = len(tar.fileobj.read(1 << 20))
        most -= read


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
        with naming(target), target.open("xb") as file:
            shutil.copyfileobj(source, file)
    except (FileExistsError, NotADirectoryError):
        raise BenchError(f"{archive}: '{member.name}' is there twice; not extracted") from None
