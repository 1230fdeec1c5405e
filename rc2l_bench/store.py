"""Runs by fingerprint: checkpoints that survive a kill at any moment, and results that are never computed twice."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from rc2l_bench.errors import BenchError

KEPT = 2
"""Checkpoints of a run that are kept: the newest, and one before it."""

SOURCES = (
    "augment", "decode", "draws", "evaluate", "loader", "losses", "method", "metrics", "nets",
    "region_losses", "region_net", "regions", "train", "types",
)  # fmt: skip
"""Modules of the package whose source makes numbers; the method's own module is added."""


def digest_sources(method: str) -> str:
    """sha256 of the source of all modules that make the numbers of a method.

    Args:
        method: id, for instance `baselines/cps`.
    """
    digest = hashlib.sha256()
    for module in [f"rc2l_bench.{name}" for name in SOURCES] + [method.replace("/", ".")]:
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        assert spec.origin is not None, module
        digest.update(f"{module}\n".encode() + Path(spec.origin).read_bytes())
    return digest.hexdigest()


def fingerprint(parts: Mapping[str, Any]) -> str:
    """The name of a run: sha256 of all that makes its numbers.

    Args:
        parts: JSON values; the order of keys does not matter.

    Returns:
        64 hex digits.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()


def sync_folder(folder: Path) -> None:
    """Makes renames inside a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that it is whole or not there, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Fills a folder beside its place and moves it there when it is whole, over what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        temporary.chmod(0o755)
        fill(temporary)
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


class Run:
    """The folder of one run."""

    def __init__(self, root: Path, name: str) -> None:
        """Opens a run; nothing is written yet.

        Args:
            root: the store, usually `.rc2l/runs`.
            name: fingerprint.
        """
        self.name = name
        self.folder = root / name
        self.result = self.folder / "result"

    @property
    def complete(self) -> bool:
        """Whether the result is there."""
        return self.result.is_dir()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes off this run.

        Raises:
            BenchError: another process is on it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise BenchError(
                f"another process is on this run ({self.folder}): wait for it, the result will be shared"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.ckpt"), reverse=True)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Writes a checkpoint; older ones than the last two are removed.

        Args:
            step: steps that are done.
            state: tensors and plain values.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        content = buffer.getvalue()
        write_atomically(self.folder / f"step-{step:08d}.ckpt", hashlib.sha256(content).digest() + content)
        for old in self._checkpoints()[KEPT:]:
            old.unlink()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The newest whole checkpoint; damaged ones are passed over and removed.

        Args:
            device: where tensors go.

        Returns:
            What `save` was given; None when the run has not begun.
        """
        for path in self._checkpoints():
            content = path.read_bytes()
            if hashlib.sha256(content[32:]).digest() == content[:32]:
                try:
                    state: dict[str, Any] = torch.load(
                        io.BytesIO(content[32:]), map_location=device, weights_only=True
                    )
                except pickle.UnpicklingError as error:
                    raise BenchError(f"{path}: not a checkpoint of this suite ({error}): remove it") from None
                return state
            path.unlink()
        return None

    def finish(self, fill: Callable[[Path], None]) -> None:
        """Writes the result and removes the checkpoints.

        Args:
            fill: writes the files of the result into a folder.
        """
        replace_folder(self.result, fill)
        for path in self._checkpoints():
            path.unlink()

    def materialise(self, out: Path) -> None:
        """Copies the result to where it is wanted.

        Args:
            out: folder; what was there is replaced.
        """
        replace_folder(out, lambda folder: shutil.copytree(self.result, folder, dirs_exist_ok=True) and None)
