"""Stores beyond a folder: whatever fsspec writes to (s3, gs, …); and the store that the environment names.

Errors are one line and hold no secret.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rc2l_bench.data.addresses import is_remote, split_base, with_environment, without_secrets
from rc2l_bench.errors import BenchError, UsageError, one_line
from rc2l_bench.readers import MOST_TEXT
from rc2l_bench.run.far_store import FarStore, FolderStore, StoredFile

VARIABLE = "RC2L_BENCH_STORE"
"""Names the store that machines share: a folder or an address."""
_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|CREDENTIAL")
_CHANGED = ("LastModified", "mtime", "updated", "last_modified", "created")
"""Under which names file systems of fsspec say when a file was last written."""


class FsspecStore(FarStore):
    """Whatever fsspec has a file system for. Credentials are looked for where each of them looks for its own."""

    def __init__(self, address: str) -> None:
        """Open it; nothing is asked of the network yet.

        Raises:
            UsageError: nobody knows the scheme, its package is not installed, or the address holds a password.
        """
        from rc2l_bench.data.ranges import open_system  # only where the network is wanted: it takes a while to import

        base, _ = split_base([f"{address.rstrip('/')}/"])
        self.name = without_secrets(base).rstrip("/")
        self._system, path = open_system(with_environment(base))
        self._base = path.rstrip("/")

    def list(self, folder: str) -> dict[str, StoredFile]:
        """See `FarStore.list`."""
        with self._telling():
            self._system.invalidate_cache()
            try:
                found: list[dict[str, Any]] = self._system.ls(f"{self._base}/{folder}", detail=True)
            except FileNotFoundError:
                return {}
            files = [one for one in found if one["type"] == "file"]
            return {one["name"].rpartition("/")[2]: StoredFile(one["size"] or 0, _changed(one)) for one in files}

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
            except OSError as error:
                if error.errno == errno.EINVAL:  # s3fs, where a store does not say which condition failed
                    return False
                raise
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
    text = one_line(error)
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
