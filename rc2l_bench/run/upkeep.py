"""Upkeep of the store: what lies in it, whether it is whole, what nobody needs, what a neutral change made stale."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rc2l_bench.errors import BenchError, BusyError, UsageError
from rc2l_bench.run.pipeline import open_present_cell
from rc2l_bench.run.running import read_note
from rc2l_bench.run.store import STORE, Run
from rc2l_bench.seals import FILES, RECORD, check_files, list_files, read_record, seal
from rc2l_bench.sources import FACTS

CARRIED = "carried"
"""Key of run.json: from which fingerprints a run was taken over, and why."""
NEUTRAL = ("source", "versions")
"""Parts of a fingerprint that a change may move without moving a number: a refactoring, a patch release."""
DAY = 86400.0


class StoredRun(NamedTuple):
    """One folder of the store.

    Attributes:
        name: fingerprint.
        cell: what was run, `shapes 1_16 baselines/cps seed 0`; empty where a training left before its first note.
        finished: whether its result is there.
        used: whether a result under `runs/` is a copy of it.
        bytes: on the disk.
        age: days since it was last written.
    """

    name: str
    cell: str
    finished: bool
    used: bool
    bytes: int
    age: float


def list_runs(store: Path = STORE, results: Path = Path("runs")) -> list[StoredRun]:
    """Look at every run of a store, the largest first.

    Args:
        store: folder of runs by fingerprint.
        results: folder of the results that stages have handed out.
    """
    used = set(_fingerprints(results))
    folders = [folder for folder in store.glob("*") if folder.is_dir()]
    return sorted((_look(folder, folder.name in used) for folder in folders), key=lambda run: -run.bytes)


def _fingerprints(results: Path) -> Iterator[str]:
    for record in results.rglob(RECORD):
        try:
            yield str(read_record(record.parent)[0]["fingerprint"])
        except (BenchError, OSError, KeyError):
            continue  # A damaged result uses nothing; the report says that it is damaged.


def _look(folder: Path, used: bool) -> StoredRun:
    run = Run(folder.parent, folder.name)
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    newest = max((stat.st_mtime for stat in files), default=folder.stat().st_mtime)
    size, age = sum(stat.st_size for stat in files), (time.time() - newest) / DAY
    return StoredRun(run.name, _cell_of(run), run.complete, used, size, age)


def _cell_of(run: Run) -> str:
    if not run.complete:
        note = read_note(run.folder)
        return note.title if note else ""
    try:
        cell = read_record(run.result)[0]["cell"]
        return f"{cell['dataset']} {cell['split']} {cell['method']} seed {cell['seed']}"
    except (BenchError, OSError, KeyError, TypeError):
        return "damaged"


def verify_runs(names: Iterable[str], store: Path = STORE) -> Iterator[tuple[str, str]]:
    """Compare every byte of finished runs with the hashes that they were written with.

    Yields:
        Name of a run, and what is wrong with it; empty text for a run that is whole.
    """
    for name in names:
        try:
            Run(store, name).verify()
        except (BenchError, OSError) as error:
            yield name, str(error)
        else:
            yield name, ""


def prunable(runs: Iterable[StoredRun], days: float) -> list[StoredRun]:
    """The runs that no result uses and that nobody has written to for some days: finished ones, and unfinished ones."""
    return [run for run in runs if not run.used and run.age >= days]


def prune(runs: Iterable[StoredRun], store: Path = STORE) -> list[str]:
    """Remove runs from a store, but for those that a process works on.

    Returns:
        Names of the runs that were removed.
    """
    removed = []
    for run in runs:
        with contextlib.suppress(BusyError), Run(store, run.name).lock():
            shutil.rmtree(store / run.name)
            removed.append(run.name)
    return removed


def carry_over(result: Path, reason: str, store: Path = STORE) -> str:
    """Take a finished run over to the fingerprint that its cell has now, after a change that moves no number.

    Whoever calls this vouches for the change: the numbers stay, run.json keeps the old fingerprint with the reason, and
    a report shows both.

    Args:
        result: folder of a result, `runs/<dataset>/<split>/<method>/seed<k>`.
        reason: why no number moves, in a sentence.
        store: where the run goes.

    Returns:
        The new fingerprint.

    Raises:
        UsageError: there is no reason, the fingerprint is the present one already, or more has changed than the code
            and the versions of packages.
        BenchError: the result is damaged.
    """
    if not reason.strip():
        raise UsageError("--reason: say in a sentence why this change moves no number; it is shown in the report")
    old, listed = read_record(result)
    check_files(result, listed)  # they are hashed anew below, which would make damage look whole
    new = _present(old["cell"])
    changed = [name for name in new if name != "fingerprint" and new[name] != old.get(name)]
    if not changed:
        raise UsageError(f"{result}: has the present fingerprint already: nothing to carry over")
    if strange := [name for name in changed if name not in NEUTRAL]:
        raise UsageError(
            f"{result}: differs in {', '.join(strange)}, not only in {' and '.join(NEUTRAL)}: train it again"
        )
    before = {name: old.get(name) for name in ("fingerprint", *changed)}
    # Of the old record the facts alone: the fingerprint has to be that of the parts beside it.
    facts = {name: old[name] for name in FACTS if name in old}
    record = {**facts, **new, CARRIED: [*old.get(CARRIED, []), {**before, "reason": reason.strip()}]}
    run = Run(store, new["fingerprint"])
    with run.lock():
        if not run.complete:
            run.finish(lambda folder: _copy(result, folder, record))
    return run.name


def _present(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance of a cell as it would be trained now."""
    item = {name: str(value) for name, value in cell.items()}
    return open_present_cell(item).provenance()


def _copy(result: Path, folder: Path, record: Mapping[str, Any]) -> None:
    shutil.copytree(result, folder, dirs_exist_ok=True)
    (folder / RECORD).unlink()
    (folder / RECORD).write_bytes(seal({**record, FILES: list_files(folder)}, indent=2))
