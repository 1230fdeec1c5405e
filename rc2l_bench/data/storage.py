"""Where the bytes of samples lie, and reading pieces of them: each is compared with its hash before it is used."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rc2l_bench.data.index import REPAIR
from rc2l_bench.errors import BenchError

MOST_OPEN = 256
"""Files that one process keeps open: pools may have thousands, and systems allow about a thousand."""


class Piece(NamedTuple):
    """Bytes of a file.

    Attributes:
        name: of the file, seen from where the storage lies.
        offset: of the first byte.
        size: number of bytes.
        sha256: of these bytes.
        owner: whose they are, for messages.
    """

    name: str
    offset: int
    size: int
    sha256: bytes
    owner: str

    def fits(self, data: bytes) -> bool:
        """Whether these are the bytes."""
        return len(data) == self.size and hashlib.sha256(data).digest() == self.sha256


class Storage(ABC):
    """A place with files. May be used after a fork."""

    @abstractmethod
    def read(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Read pieces, in their order.

        Raises:
            BenchError: a file is missing, cut off, changed or out of reach.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections; reading takes them up again."""


class Disk(Storage):
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: OrderedDict[str, int] = OrderedDict()

    def __del__(self) -> None:
        self.close()

    def read(self, pieces: Sequence[Piece]) -> list[bytes]:
        """See `Storage.read`."""
        return [self._read(piece) for piece in pieces]

    def close(self) -> None:
        """See `Storage.close`."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _read(self, piece: Piece) -> bytes:
        data = os.pread(self._file(piece.name), piece.size, piece.offset)
        if not piece.fits(data):
            fault = "lies behind the end of the file" if len(data) < piece.size else "has changed since it was written"
            raise BenchError(f"{self.folder / piece.name}: {piece.owner}: {fault}: {REPAIR}")
        return data

    def _file(self, name: str) -> int:
        """The descriptor of a file. Processes may share it, because pread moves no position."""
        if name not in self._files:
            path = self.folder / name
            try:
                self._files[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise BenchError(f"{path}: is missing: {REPAIR}") from None
            if len(self._files) > MOST_OPEN:
                os.close(self._files.popitem(last=False)[1])
        self._files.move_to_end(name)
        return self._files[name]
