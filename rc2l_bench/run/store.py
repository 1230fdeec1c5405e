"""Runs by fingerprint: checkpoints that survive a kill at any moment, and results that are never computed twice.

Torch is imported only to read and write checkpoints, so that a finished run is handed out at once.
"""

from __future__ import annotations

import errno
import hashlib
import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from rc2l_bench.errors import BusyError
from rc2l_bench.files import replace_folder, sweep, write_atomically
from rc2l_bench.readers import DamagedFileError, reading
from rc2l_bench.run.far_store import FolderStore
from rc2l_bench.run.leases import describe_holder, holding
from rc2l_bench.seals import RECORD, check_files, read_record

if TYPE_CHECKING:
    import torch

STORE = Path(".rc2l/runs")
"""Where runs are kept."""
KEPT = 2
"""Checkpoints of a run that are kept: the newest, and one before it."""
NO_FLOCK = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
"""What file systems say that have no locks."""


def is_whole(checkpoint: Path) -> bool:
    """Whether the bytes of a checkpoint have the hash that they begin with."""
    with checkpoint.open("rb") as file:
        wanted, found = file.read(32), hashlib.sha256()
        while part := file.read(1 << 20):
            found.update(part)
    return found.digest() == wanted


class Run:
    """The folder of one run.

    Attributes:
        name: fingerprint.
        folder: where all of it lies.
        result: where the result lies once there is one.
        saved: told of every checkpoint that has been written.
    """

    def __init__(self, root: Path, name: str) -> None:
        """Opens a run; nothing is written yet.

        Args:
            root: the store, usually `.rc2l/runs`.
            name: fingerprint.
        """
        self.name = name
        self.folder = root / name
        self.result = self.folder / "result"
        self.saved: Callable[[Path], object] = lambda _: None

    @property
    def complete(self) -> bool:
        """Whether the result is there."""
        return self.result.is_dir()

    @property
    def newest_step(self) -> int:
        """Steps that the newest checkpoint has done; 0 where there is none."""
        newest = next(iter(self.checkpoints()), None)
        return int(newest.stem.removeprefix("step-")) if newest else 0

    @contextmanager
    def lock(self, owner: bool = True) -> Iterator[None]:
        """Keeps other processes off this run.

        Args:
            owner: of the processes of one training, one holds the lock; the others pass.

        Raises:
            BusyError: another process is on it.
        """
        if not owner:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        place = FolderStore(self.folder.parent)
        # Two locks: the first one is given back at the very moment that its process ends, but some shared file systems
        # keep it to one node, and some have none; the lease holds everywhere.
        with self._locked(place), holding(place, self.name, str(self.folder)):
            sweep(self.folder)
            yield

    @contextmanager
    def _locked(self, place: FolderStore) -> Iterator[None]:
        lock = FileLock(self.folder / "lock", fallback_to_soft=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            who = describe_holder(place, self.name)
            raise BusyError(
                f"another process is on this run ({self.folder}{who and f', {who}'}): wait for it, "
                "the result will be shared"
            ) from None
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
        try:
            yield
        finally:
            lock.release()

    def checkpoints(self) -> list[Path]:
        """List the checkpoints, the newest first; whether they are whole shows when they are read."""
        return sorted(self.folder.glob("step-*.ckpt"), reverse=True)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Writes a checkpoint; older ones than the last two are removed.

        Args:
            step: steps that are done.
            state: tensors and plain values.
        """
        import torch

        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        content = buffer.getvalue()
        path = self.folder / f"step-{step:08d}.ckpt"
        write_atomically(path, hashlib.sha256(content).digest() + content)
        for old in self.checkpoints()[KEPT:]:
            old.unlink()
        self.saved(path)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The newest whole checkpoint; damaged ones are passed over and removed.

        Args:
            device: where tensors go.

        Returns:
            What `save` was given; None when the run has not begun.
        """
        import torch

        for path in self.checkpoints():
            content = path.read_bytes()
            if hashlib.sha256(content[32:]).digest() == content[:32]:
                with reading(path, "not a checkpoint of this suite, remove it"):
                    state: dict[str, Any] = torch.load(io.BytesIO(content[32:]), map_location=device, weights_only=True)
                return state
            path.unlink()
        return None

    def finish(self, fill: Callable[[Path], None]) -> None:
        """Writes the result and removes the checkpoints.

        Args:
            fill: writes the files of the result into a folder.
        """
        replace_folder(self.result, fill, sign=RECORD)
        for path in self.checkpoints():
            path.unlink()

    def verify(self) -> None:
        """Compare every byte of the result with the hashes that it was written with.

        Raises:
            DamagedFileError: a file is missing or has changed, or this is the result of another run.
        """
        hint = f"delete {self.result} to train this run again"
        record, listed = read_record(self.result, hint)
        if record.get("fingerprint") != self.name:
            raise DamagedFileError(f"{self.result / RECORD}: belongs to another run: {hint}")
        try:
            check_files(self.result, listed)
        except DamagedFileError as error:
            raise DamagedFileError(f"{error}: {hint}") from None

    def materialise(self, out: Path) -> None:
        """Copy the result to where it is wanted, after it was verified.

        Args:
            out: folder; what was there is replaced.

        Raises:
            DamagedFileError: see `verify`; what was there stays.
        """
        self.verify()

        def fill(folder: Path) -> None:
            shutil.copytree(self.result, folder, dirs_exist_ok=True)

        replace_folder(out, fill, sign=RECORD)
