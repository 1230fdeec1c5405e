"""Batches made ahead are those that are made in turn, one ahead, and nothing is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from rc2l_bench.errors import BenchError
from rc2l_bench.run.prefetch import prefetch
from rc2l_bench.types import Batch

CPU = torch.device("cpu")


def finish(loaded: int, step: int) -> Batch:
    values = torch.full((2, 3, 4, 4), float(loaded * 100 + step))
    label = torch.zeros(2, 4, 4, dtype=torch.int64)
    box = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    return Batch(image=values, label=label, weak=values, strong=values[None], box=box, valid=label.bool())


class Loader:
    """Gives numbers, and remembers what happened to it."""

    def __init__(self, first: int, count: int, fault: Exception | None = None) -> None:
        self.taken, self.closed = 0, False
        self.threads: list[str] = []
        self._items = self._give(first, count, fault)

    def _give(self, first: int, count: int, fault: Exception | None) -> Iterator[int]:
        try:
            for number in range(first, first + count):
                self.taken += 1
                self.threads.append(threading.current_thread().name)
                yield number
            if fault:
                raise fault
        finally:
            self.closed = True

    def __iter__(self) -> Iterator[int]:
        return self._items


def values(batches: Iterator[Batch]) -> list[float]:
    return [float(batch.image[0, 0, 0, 0]) for batch in batches]


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_batches_come_in_order_with_their_steps(count):
    loader = Loader(5, count)
    assert values(prefetch(iter(loader), finish, 5, CPU)) == [101.0 * step for step in range(5, 5 + count)]
    assert running() == []


def test_one_batch_is_made_ahead_and_the_first_is_loaded_where_processes_may_be_forked():
    loader = Loader(0, 100)
    batches = prefetch(iter(loader), finish, 0, CPU)
    next(batches)
    deadline = time.monotonic() + 10
    while loader.taken < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    # One that is used, one that waits, one that found no place yet.
    assert loader.taken == 3
    assert loader.threads == ["MainThread", "prefetch", "prefetch"]
    batches.close()
    assert loader.closed
    assert running() == []


def test_what_goes_wrong_arrives_after_the_batches_before_it():
    batches = prefetch(iter(Loader(0, 2, BenchError("no shard"))), finish, 0, CPU)
    assert [next(batches).image[0, 0, 0, 0] for _ in range(2)] == [0, 101]
    with pytest.raises(BenchError, match="no shard"):
        next(batches)
    assert running() == []


def test_a_batch_that_cannot_be_made_ends_the_training_too():
    def broken(_: int, step: int) -> Batch:
        raise BenchError(f"step {step}")

    with pytest.raises(BenchError, match="step 3"):
        next(prefetch(iter(Loader(0, 2)), broken, 3, CPU))
    assert running() == []
