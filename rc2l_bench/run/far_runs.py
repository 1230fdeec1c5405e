"""What machines share of a run: its result, and where asked for its checkpoints, in the store of `RC2L_BENCH_STORE`.

There a run has a folder of its own, named by its fingerprint: `result-<sha256>.tar`, and `result.json`, a sealed list
with the hash of the tar and of each file in it, which is written last and once. So a result is there as a whole or not
at all, and of two machines that finish the same run the first one counts. Checkpoints begin with their hash.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rc2l_bench.errors import BenchError, PreemptedError
from rc2l_bench.files import say, temporary_name
from rc2l_bench.readers import DamagedFileError, read_json
from rc2l_bench.run.bundles import pack, unpack
from rc2l_bench.run.far_store import FarStore
from rc2l_bench.run.leases import holding
from rc2l_bench.run.object_store import open_store
from rc2l_bench.run.owners import Owner, this_process
from rc2l_bench.run.store import KEPT, Run, is_whole
from rc2l_bench.schema import Model
from rc2l_bench.seals import RECORD, check_files, read_record, seal, unseal
from rc2l_bench.sources import digest_file

MANIFEST = "result.json"
NUMBERS = ("metrics.json", "history.csv", "confusion.npz", "calibration.npz", "model.safetensors")
"""Files of a result that hold what was computed; the others say where, when and how fast."""
CHECKPOINT = re.compile(r"step-(\d{8})\.ckpt")
POLL, PATIENCE = 0.5, 600.0
"""Seconds between two looks for what the first process of a training fetches, and for how long."""


class StoredResult(Model):
    """`result.json`."""

    fingerprint: str
    tar: str
    """Name of the file with all files of the result."""
    tar_sha256: str
    files: dict[str, str]
    """sha256 by name, as in run.json."""
    by: Owner
    """Who put it there."""


class FarRun:
    """A run in the store that machines share."""

    def __init__(self, store: FarStore, run: Run, minutes: float) -> None:
        """Look at nothing yet.

        Args:
            store: where machines share runs.
            run: the same run here.
            minutes: between checkpoints that are put there; 0 = none.
        """
        self.store, self.run, self.minutes = store, run, minutes
        self.where = f"{store.name}/{run.name}"
        self._put_at, self._newest = time.monotonic(), ""

    def find(self) -> StoredResult | None:
        """Read what is said of the result there; None while there is none.

        Raises:
            DamagedFileError: it has changed since it was written.
        """
        if MANIFEST not in self.store.list(self.run.name):
            return None
        path, hint = f"{self.where}/{MANIFEST}", "remove it there to train this run again"
        try:
            found = StoredResult.model_validate(unseal(self.store.read(f"{self.run.name}/{MANIFEST}"), path, hint))
        except ValueError as error:
            if isinstance(error, DamagedFileError):
                raise
            raise DamagedFileError(f"{path}: is no list of a result: {hint}") from None
        if found.fingerprint != self.run.name or "/" in found.tar:
            raise DamagedFileError(f"{path}: belongs to another run: {hint}")
        return found

    def fetch_result(self) -> bool:
        """Take the result over from there; whether there is one.

        Raises:
            DamagedFileError: a byte of it has changed since it was put there.
        """
        found = self.find()
        if found is None:
            return False
        self._take_over(found)
        return True

    def _take_over(self, found: StoredResult) -> None:
        hint = f"remove {MANIFEST} there to train this run again"
        part = temporary_name(self.run.folder / found.tar)
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._fetch(found, part, hint)

            def fill(folder: Path) -> None:
                unpack(part, folder, [RECORD, *found.files])
                record, listed = read_record(folder, hint)
                if listed != found.files or record.get("fingerprint") != self.run.name:
                    raise DamagedFileError(f"{self.where}: {RECORD} is that of another result: {hint}")
                check_files(folder, listed)

            self.run.finish(fill)
        finally:
            part.unlink(missing_ok=True)

    def _fetch(self, found: StoredResult, part: Path, hint: str) -> None:
        try:
            self.store.fetch(f"{self.run.name}/{found.tar}", part)
        except FileNotFoundError:
            raise DamagedFileError(f"{self.where}/{found.tar}: is missing: {hint}") from None
        if digest_file(part) != found.tar_sha256:
            raise DamagedFileError(f"{self.where}/{found.tar}: has changed since it was written: {hint}")

    def fetch_checkpoint(self) -> None:
        """Take over the newest checkpoint there that is whole, if it is newer than what is here."""
        here = max((path.name for path in self.run.checkpoints() if is_whole(path)), default="")
        for name in sorted(self._checkpoints(), reverse=True):
            if name <= here:
                return
            part = temporary_name(self.run.folder / name)
            try:
                self.store.fetch(f"{self.run.name}/{name}", part)
                if is_whole(part):
                    part.replace(self.run.folder / name)
                    self._newest = name
                    return
                say(f"{self.where}/{name}: has changed since it was written: passed over")
            except FileNotFoundError:
                continue
            finally:
                part.unlink(missing_ok=True)

    def _checkpoints(self) -> list[str]:
        return [name for name in self.store.list(self.run.name) if CHECKPOINT.fullmatch(name)]

    def offer(self, checkpoint: Path) -> None:
        """Put a checkpoint there, unless the last one is too young."""
        if time.monotonic() - self._put_at >= 60 * self.minutes:
            self._put_checkpoint(checkpoint)

    def offer_newest(self) -> None:
        """Put the newest checkpoint there before this machine goes away."""
        for checkpoint in self.run.checkpoints()[:1]:
            if checkpoint.name != self._newest:
                self._put_checkpoint(checkpoint)

    def _put_checkpoint(self, checkpoint: Path) -> None:
        """Put a checkpoint there. Where that fails the training goes on: a day of it is worth more than a copy."""
        self._put_at = time.monotonic()
        try:
            self.store.put(checkpoint, f"{self.run.name}/{checkpoint.name}")
            self._newest = checkpoint.name
            for old in sorted(self._checkpoints(), reverse=True)[KEPT:]:
                self.store.remove(f"{self.run.name}/{old}")
        except (BenchError, OSError) as error:
            say(f"{checkpoint.name} stays on this machine alone: {error}")

    def put_result(self) -> None:
        """Put the result there, or take over the one that is there: all machines hand out the same one.

        Raises:
            BenchError: the store is out of reach or full; the result here stays, and the same command tries again.
        """
        found = self.find() or self._put()
        here = read_record(self.run.result)[1]
        if here == found.files:
            return
        changed = [name for name in NUMBERS if here.get(name) != found.files.get(name)]
        mine = _miou(self.run) if changed else None
        self._take_over(found)
        if changed:
            say(
                f"{self.where}: {found.by.describe()} has put another result of this run there: {', '.join(changed)} "
                f"differ, mIoU {_miou(self.run)} there and {mine} here. The one there counts, and is now here, too"
            )

    def _put(self) -> StoredResult:
        """Put the result there; returns the list of the first one that anybody has put."""
        self.run.verify()
        mine, part = self._pack()
        try:
            self.store.put(part, f"{self.run.name}/{mine.tar}")
        finally:
            part.unlink(missing_ok=True)
        self.store.create(f"{self.run.name}/{MANIFEST}", seal(mine.model_dump(mode="json")))
        first = self.find()
        if first is None:
            raise BenchError(f"{self.where}/{MANIFEST}: was removed while it was written: run the same command again")
        if first.tar != mine.tar:
            self.store.remove(f"{self.run.name}/{mine.tar}")
        for name in self._checkpoints():
            self.store.remove(f"{self.run.name}/{name}")
        return first

    def _pack(self) -> tuple[StoredResult, Path]:
        """Make the tar, and what is said of it."""
        part = temporary_name(self.run.folder / "result.tar")
        listed = read_record(self.run.result)[1]
        pack(self.run.result, [RECORD, *listed], part)
        sha256 = digest_file(part)
        manifest = StoredResult(
            fingerprint=self.run.name, tar=f"result-{sha256[:16]}.tar", tar_sha256=sha256,
            files=listed, by=this_process(),
        )  # fmt: skip
        return manifest, part

    def await_result(self) -> None:
        """Wait until the first process of this training has fetched the result, if there is one."""
        begin = time.monotonic()
        while not self.run.complete and self.find() is not None and time.monotonic() - begin < PATIENCE:
            time.sleep(POLL)


def _miou(run: Run) -> str:
    """The score of a result, for a message."""
    metrics: Mapping[str, Any] = read_json(run.result / "metrics.json")
    miou = metrics.get("miou")
    return f"{miou:.4f}" if isinstance(miou, float) else "–"


def fetch_finished(run: Run) -> bool:
    """Whether a run is finished here, or on another machine; its result is here then."""
    store = None if run.complete else open_store()
    return run.complete or (store is not None and FarRun(store, run, 0).fetch_result())


def is_finished(run: Run) -> bool:
    """Whether a run is finished here, or on another machine; nothing is fetched."""
    store = None if run.complete else open_store()
    return run.complete or (store is not None and FarRun(store, run, 0).find() is not None)


@contextmanager
def sharing(
    run: Run, minutes: float, owner: bool = True, store: FarStore | None = None
) -> Iterator[Callable[[], None]]:
    """Work on a run that machines share: fetch what is there, and put there what the body makes.

    Args:
        run: locked by this process.
        minutes: between checkpoints that are put there; 0 = none.
        owner: of the processes of one training, one fetches and puts; the others wait for what it fetches.
        store: where; None = in the one of `RC2L_BENCH_STORE`, if that is set.

    Yields:
        What puts the result there; to be called once there is one. It does nothing where there is no store.

    Raises:
        UsageError: the variable names no place that can be a store.
        BusyError: a process of another machine is on the run.
        BenchError: the store is out of reach, or what lies there is damaged.
    """
    store = store or open_store()
    if store is None:
        yield lambda: None
        return
    far = FarRun(store, run, minutes)
    if not owner:
        far.await_result()
        yield lambda: None
        return
    with contextlib.ExitStack() as held:
        if not run.complete and not far.fetch_result():
            held.enter_context(holding(store, run.name, far.where))
            _fetch_rest(far)
        try:
            yield far.put_result
        except PreemptedError:
            if minutes:
                far.offer_newest()
            raise


def _fetch_rest(far: FarRun) -> None:
    """Fetch what is there, now that nobody else works on the run: it may have been finished a moment ago."""
    if not far.fetch_result():
        far.fetch_checkpoint()
        if far.minutes:
            far.run.saved = far.offer
