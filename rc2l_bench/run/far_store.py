"""Places where several machines keep files: a folder that they share, or whatever fsspec writes to (s3, gs, …).

A file appears as a whole or not at all; `create` is the one operation that two machines can race for, and one of them
wins. Errors are one line and hold no secret.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from rc2l_bench.data.addresses import is_remote, split_base, with_environment, without_secrets
from rc2l_bench.data.ranges import open_system
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.files import naming, sweep, sync, temporary_name, write_atomically
from rc2l_bench.readers import MOST_TEXT, read_bytes

VARIABLE = "RC2L_BENCH_STORE"
"""Names the store that machines share: a folder or an address."""
ABANDONED = 3600.0
"""Seconds without a write after which a file under a temporary name belongs to nobody."""
_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|CREDENTIAL")
_CHANGED = ("LastModified", "mtime", "updated", "last_modified", "created")
"""Under which names file systems of fsspec say when a file was last written."""


class Entry(NamedTuple):
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
    def list(self, folder: str) -> dict[str, Entry]:
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

    def list(self, folder: str) -> dict[str, Entry]:
        """See `FarStore.list`."""
        found: dict[str, Entry] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root / folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # it has just been removed
                    if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                        found[entry.name] = Entry(entry.stat().st_size, entry.stat().st_mtime)
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


class FsspecStore(FarStore):
    """Whatever fsspec has a file system for. Credentials are looked for where each of them looks for its own."""

    def __init__(self, address: str) -> None:
        """Open it; nothing is asked of the network yet.

        Raises:
            UsageError: nobody knows the scheme, its package is not installed, or the address holds a password.
        """
        base, _ = split_base([f"{address.rstrip('/')}/"])
        self.name = without_secrets(base).rstrip("/")
        self._system, path = open_system(with_environment(base))
        self._base = path.rstrip("/")

    def list(self, folder: str) -> dict[str, Entry]:
        """See `FarStore.list`."""
        with self._telling():
            self._system.invalidate_cache()
            try:
                found: list[dict[str, Any]] = self._system.ls(f"{self._base}/{folder}", detail=True)
            except FileNotFoundError:
                return {}
            files = [one for one in found if one["type"] == "file"]
            return {one["name"].rpartition("/")[2]: Entry(one["size"] or 0, _changed(one)) for one in files}

    def read(self, path: str) -> bytes:
        """See `FarStore.read`."""
        with self._telling(missing=True):
            data: bytes = self._system.cat_file(f"{self._base}/{path}", start=0, end=MOST_TEXT)
            return data

    def fetch(self, path: str, to: Path) -> None:
        """See `FarStore.fetch`."""
        with self._telling(missing=True):
            self._system.get_file(f"{self._base}/{path}", str(to))

    def write(self, path: str, data: bytes) -> None:
        """See `FarStore.write`."""
        with self._telling():
            self._system.pipe_file(f"{self._base}/{path}", data)

    def put(self, source: Path, path: str) -> None:
        """See `FarStore.put`."""
        with self._telling():
            self._system.put_file(str(source), f"{self._base}/{path}")

    def create(self, path: str, data: bytes) -> bool:
        """See `FarStore.create`."""
        with self._telling():
            try:
                self._system.pipe_file(f"{self._base}/{path}", data, mode="create")
            except FileExistsError:
                return False
            return True

    def remove(self, path: str) -> None:
        """See `FarStore.remove`."""
        with self._telling(), contextlib.suppress(FileNotFoundError):
            self._system.rm_file(f"{self._base}/{path}")

    @contextmanager
    def _telling(self, missing: bool = False) -> Iterator[None]:
        """Tell what a file system raises in one line: each has errors of its own. `missing` files are for the caller.

        Raises:
            BenchError: the place is out of reach, full, or not for this user.
        """
        try:
            yield
        except FileNotFoundError as error:
            if missing:
                raise
            raise BenchError(f"{VARIABLE}: {self.name}: {_reason(error)}") from None
        except Exception as error:
            raise BenchError(f"{VARIABLE}: {self.name}: {_reason(error)}") from None


def _changed(entry: dict[str, Any]) -> float:
    found = next((entry[name] for name in _CHANGED if entry.get(name) is not None), None)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    if found is None:
        raise ValueError(
            f"{entry['name']}: the place does not say when a file was written; such a one cannot be a store"
        )
    return found.timestamp() if isinstance(found, datetime) else float(found)


def _reason(error: Exception) -> str:
    """Describe an error in words that hold no secret."""
    text = " ".join(str(error).split())
    # Of the longest first, because one may hold another.
    values = sorted((value for name, value in os.environ.items() if _SECRET.search(name)), key=len, reverse=True)
    for value in values:
        text = text.replace(value, "…") if len(value) > 3 else text
    text = f"{type(error).__name__}: {without_secrets(text)[:160]}"
    if isinstance(error, PermissionError) or "Credential" in text:
        return f"{text}: check the credentials and what they may do there"
    return text


def open_store() -> FarStore | None:
    """The store that `RC2L_BENCH_STORE` names; None where it is not set.

    Raises:
        UsageError: there is no such folder, or nobody can write to such an address.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    if text.startswith(("http://", "https://")):
        raise UsageError(f"{VARIABLE}: {without_secrets(text)}: cannot be written to: name a folder, s3://…, gs://…")
    if is_remote(text):
        return FsspecStore(text)
    root = Path(text).expanduser()
    if not root.is_dir():
        # Not made here: where a shared file system is not mounted, results would go to the disk of one machine.
        raise UsageError(f"{VARIABLE}: {root}: no such folder: make it once, or mount what holds it")
    return FolderStore(root)
