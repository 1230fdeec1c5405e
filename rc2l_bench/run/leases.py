"""Leases: one process at a time works on a run, on whatever machine, and what a dead one held is free again.

A lease is a small file that says who holds it and is written again now and then. Its number grows with every holder,
and a number can be taken once only, so of two processes that find the same dead holder one succeeds it. Ages count by
the clock of the place where the lease lies. No lock of a file system is needed, which on some is local to a node.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from rc2l_bench.errors import BenchError, BusyError
from rc2l_bench.files import say
from rc2l_bench.run.far_store import FarStore, StoredFile
from rc2l_bench.run.owners import Owner, this_process

BEAT = 60.0
"""Seconds between two signs of life."""
EXPIRES = 300.0
"""Seconds without one after which a holder on another machine counts as gone: it has missed several."""
PATIENCE = 10.0
"""Seconds that the end of a run waits for a sign of life that is on its way."""
LEASE = re.compile(r"lease-(\d{6})\.json")


@contextmanager
def holding(store: FarStore, folder: str, where: str) -> Iterator[None]:
    """Hold the lease of a run while the body runs.

    Args:
        store: where it lies.
        folder: of the run in the store.
        where: what to call it in messages.

    Raises:
        BusyError: another process holds it and lives, as far as anybody knows.
    """
    owner = this_process()
    data, name = owner.model_dump_json().encode(), _take(store, folder, where, owner)
    path, over = f"{folder}/{name}", threading.Event()
    beating = threading.Thread(target=_beat, args=(store, folder, name, data, over, where), daemon=True, name="lease")
    beating.start()
    try:
        yield
    finally:
        over.set()
        beating.join(PATIENCE)
        with contextlib.suppress(BenchError, OSError):  # out of reach: it expires by itself
            store.remove(path)


def _take(store: FarStore, folder: str, where: str, owner: Owner) -> str:
    """Make the next lease of a run, and remove those of holders that are gone."""
    held = _held(store, folder)
    if held:
        newest = max(held)
        _refuse_living(store, folder, newest, held[newest], where)
    name = f"lease-{_number(max(held, default='')) + 1:06d}.json"
    if not _create(store, f"{folder}/{name}", owner):
        raise BusyError(f"another process is on this run ({where}, since a moment): {_ADVICE}")
    for old in held:
        store.remove(f"{folder}/{old}")
    return name


def _create(store: FarStore, path: str, owner: Owner) -> bool:
    """Make a lease; whether this process holds it.

    A store may have made it and its answer may have been lost: then it says on a second try that there is one, or
    nothing but an error. What lies there counts.
    """
    try:
        return store.create(path, owner.model_dump_json().encode()) or read_owner(store, path) == owner
    except (BenchError, OSError):
        with contextlib.suppress(BenchError, OSError):
            if read_owner(store, path) == owner:
                return True
        raise


_ADVICE = "wait for it, the result will be shared"


def _refuse_living(store: FarStore, folder: str, name: str, entry: StoredFile, where: str) -> None:
    owner = read_owner(store, f"{folder}/{name}")
    if owner is not None and owner.is_gone():
        return
    age = store.now(folder) - entry.changed
    if age <= EXPIRES:
        who = owner.describe() if owner else "a process that did not say who it is"
        raise BusyError(f"another process is on this run ({where}, {who}, seen {max(0.0, age):.0f} s ago): {_ADVICE}")


def describe_holder(store: FarStore, folder: str) -> str:
    """Name the process that holds the lease of a run; empty where none is known."""
    held = _held(store, folder)
    owner = read_owner(store, f"{folder}/{max(held)}") if held else None
    return owner.describe() if owner else ""


def read_owner(store: FarStore, path: str) -> Owner | None:
    """Read who holds a lease; None where it is damaged, or has just been given back."""
    try:
        return Owner.model_validate_json(store.read(path))
    except (FileNotFoundError, ValidationError):
        return None


def _held(store: FarStore, folder: str) -> dict[str, StoredFile]:
    return {name: entry for name, entry in store.list(folder).items() if LEASE.fullmatch(name)}


def _number(name: str) -> int:
    match = LEASE.fullmatch(name)
    return int(match[1]) if match else 0


def _beat(store: FarStore, folder: str, name: str, data: bytes, over: threading.Event, where: str) -> None:
    """Give signs of life until the holder is done; a place out of reach is tried again at the next one."""
    while not over.wait(BEAT):
        with contextlib.suppress(BenchError, OSError):
            held = _held(store, folder)
            if max(held, default="") > name:
                say(
                    f"{where}: a process of another machine took this one for dead and does the same: first come counts"
                )
                return
            store.write(f"{folder}/{name}", data)
