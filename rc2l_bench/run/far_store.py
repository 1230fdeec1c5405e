"""Places where several machines keep files, and the plainest of them: a folder that they share.

A file appears as a whole or not at all; `create` is the one operation that two machines can race for, and one of them
wins.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rc2l_bench.files import naming, sweep, sync, temporary_name, write_atomically
from rc2l_bench.readers import read_bytes

ABANDONED = 3600.0
"""Seconds without a write after which a file under a temporary name belongs to nobody."""


class StoredFile(NamedTuple):
    """A file there: bytes, and when it was last written, seconds since 1970 by the clock of the place."""

    size: int
    changed: float


class FarStore(ABC):
    """A place with folders of files, one level deep: `folder/file`.

    Attributes:
        name: how the user wrote it, without secrets.
    """

    name: str

    @abstractmethod
    def list(self, folder: str) -> dict[str, StoredFile]:
        """Look at the files of a folder, by name; empty where there is no such folder."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Read a small file.

        Raises:
            FileNotFoundError: it is not there (any more).
        """

    @abstractmethod
    def fetch(self, path: str, to: Path) -> None:
        """Copy a file from there.

        Raises:
            FileNotFoundError: it is not there (any more).
        """

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Write a small file, over what is there."""

    @abstractmethod
    def put(self, source: Path, path: str) -> None:
        """Copy a file to there, over what is there."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Write a small file unless there is one; whether this call made it."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""

    def now(self, folder: str) -> float:
        """Ask the clock of the place, by which the ages of its files count: those of hosts differ."""
        name = f"clock-{uuid.uuid4().hex}"
        self.write(f"{folder}/{name}", b"now")
        try:
            return self.list(folder)[name].changed
        finally:
            self.remove(f"{folder}/{name}")


class FolderStore(FarStore):
    """A folder, perhaps on a file system that machines share."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)

    def list(self, folder: str) -> dict[str, StoredFile]:
        """See `FarStore.list`."""
        found: dict[str, StoredFile] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root / folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # it has just been removed
                    if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                        found[entry.name] = StoredFile(entry.stat().st_size, entry.stat().st_mtime)
        return found

    def read(self, path: str) -> bytes:
        """See `FarStore.read`."""
        return read_bytes(self.root / path)

    def fetch(self, path: str, to: Path) -> None:
        """See `FarStore.fetch`."""
        with naming(to):
            shutil.copyfile(self.root / path, to)

    def write(self, path: str, data: bytes) -> None:
        """See `FarStore.write`."""
        write_atomically(self.root / path, data)

    def put(self, source: Path, path: str) -> None:
        """See `FarStore.put`."""
        with self._writing(path) as part, part.open("xb") as file, source.open("rb") as content:
            shutil.copyfileobj(content, file, 1 << 20)
            sync(file)

    def create(self, path: str, data: bytes) -> bool:
        """See `FarStore.create`."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = temporary_name(target)
        try:
            with naming(target), part.open("xb") as file:
                file.write(data)
                sync(file)
            return _link(part, target)
        finally:
            part.unlink(missing_ok=True)

    def remove(self, path: str) -> None:
        """See `FarStore.remove`."""
        (self.root / path).unlink(missing_ok=True)

    @contextmanager
    def _writing(self, path: str) -> Iterator[Path]:
        """A name beside a path, which what the body writes there is moved to."""
        target = self.root / path
        with naming(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            sweep(target.parent)
            part = temporary_name(target)
            try:
                yield part
                self._sweep_strangers(target.parent, part.stat().st_mtime)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)

    def _sweep_strangers(self, folder: Path, now: float) -> None:
        """Remove what processes of other machines left half-written long ago."""
        for rest in folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if now - rest.stat().st_mtime > ABANDONED:
                    rest.unlink()


def _link(part: Path, target: Path) -> bool:
    """Give a whole file its name unless the name is taken."""
    try:
        os.link(part, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links; exclusive creation is what it has, and readers check contents
        try:
            with target.open("xb") as file:
                file.write(part.read_bytes())
                sync(file)
        except FileExistsError:
            return False
    return True
