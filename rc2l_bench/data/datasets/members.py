"""Read files inside archives where they lie: nothing is unpacked to the disk."""

from __future__ import annotations

import os
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from rc2l_bench.data.archives import AGAIN, MemberInfo
from rc2l_bench.errors import BenchError
from rc2l_bench.readers import DamagedFileError, reading

MOST_MEMBER = 1 << 28
"""Bytes of one image, mask or list; those of Cityscapes have 2.8 MB."""


class Members(ABC):
    """Regular files of an archive by name. To be closed, or used in a `with` statement.

    Attributes:
        path: of the archive.
        names: of the members; never starting with `./`.
    """

    path: Path
    names: Collection[str]

    def read(self, name: str) -> bytes:
        """Read the bytes of a member.

        Raises:
            BenchError: there is no such member, or it is damaged.
        """
        if name not in self.names:
            raise BenchError(f"{self.path}: has no member {name}: it is not the whole archive: fetch it again")
        return self._read(name)

    def require(self, names: Iterable[str]) -> None:
        """Make sure that members are there, without reading them.

        Raises:
            BenchError: one is not.
        """
        # Asked when an archive has just been fetched; `read` would find out hours later, in the middle of a stage.
        missing = [name for name in names if name not in self.names]
        if missing:
            more = f" (and {len(missing) - 1} more)" if missing[1:] else ""
            raise BenchError(f"{self.path}: has no member {missing[0]}{more}: it is not the whole archive")

    @abstractmethod
    def _read(self, name: str) -> bytes: ...

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.close()


class TarMembers(Members):
    """Members of a tar without compression, read by offset after one pass over its headers."""

    def __init__(self, path: Path, wanted: Callable[[str], bool], hint: str) -> None:
        """Find the members whose names are wanted.

        Args:
            path: of the archive.
            wanted: tells by a name whether a member is ever read.
            hint: what to do where the archive is missing.

        Raises:
            BenchError: the archive is missing (then the hint is given) or damaged.
        """
        self.path = path
        try:
            with reading(path, AGAIN), tarfile.open(path, "r:", tarinfo=MemberInfo) as tar:
                self.names = self._members = _find_members(tar, wanted)
            # A descriptor of its own: tarfile reads through a buffer that has a position.
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BenchError(f"{path}: missing: {hint}") from None

    def _read(self, name: str) -> bytes:
        offset, size = self._members[name]
        _check_size(self.path, name, size)
        # By offset, with no position in the file that threads or forks would share.
        data = os.pread(self._file, size, offset)
        if len(data) != size:
            raise DamagedFileError(f"{self.path}: {name} is cut off: {AGAIN}")
        return data

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class ZipMembers(Members):
    """Members of a zip; each is checked against its CRC when it is read."""

    def __init__(self, path: Path, hint: str) -> None:
        """Read the directory of the archive.

        Args:
            path: of the archive.
            hint: what to do where it is missing.

        Raises:
            BenchError: the archive is missing (then the hint is given) or damaged.
        """
        self.path = path
        try:
            with reading(path, AGAIN):
                self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise BenchError(f"{path}: missing: {hint}") from None
        self.names = {info.filename: None for info in self._zip.infolist() if not info.is_dir()}

    def _read(self, name: str) -> bytes:
        _check_size(self.path, name, self._zip.getinfo(name).file_size)
        with reading(f"{self.path}: {name}", AGAIN):
            return self._zip.read(name)

    @contextmanager
    def stream(self, name: str, most: int) -> Iterator[IO[bytes]]:
        """Open a member that is too large to be held in memory, to be read piece by piece.

        Args:
            name: of the member.
            most: bytes that it may have.

        Raises:
            BenchError: there is no such member, or it claims to have more bytes.
        """
        self.require([name])
        _check_size(self.path, name, self._zip.getinfo(name).file_size, most)
        with self._zip.open(name) as file:
            yield file

    def close(self) -> None:
        """Close the file."""
        self._zip.close()


def plain(name: str) -> str:
    """Strip the `./` that some tars put in front of a member's name."""
    return name.removeprefix("./")


def _find_members(tar: tarfile.TarFile, wanted: Callable[[str], bool]) -> dict[str, tuple[int, int]]:
    """Find offset and size of the wanted regular files."""
    # An archive that holds a name twice means the last one, as tar itself would leave it.
    found = {}
    for member in tar:
        if member.isreg() and wanted(plain(member.name)):
            found[plain(member.name)] = member.offset_data, member.size
        tar.members = []  # type: ignore[attr-defined]  # else all headers stay in memory
    return found


def _check_size(path: Path, name: str, size: int, most: int = MOST_MEMBER) -> None:
    """Refuse a member that claims to be far larger than any image or list is."""
    if size > most:
        raise DamagedFileError(f"{path}: {name} claims {size:,} bytes, expected at most {most:,}: {AGAIN}")
