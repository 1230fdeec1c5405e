"""Shards + seed + step -> the same batch always, whatever the workers and processes."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rc2l_bench.data.order import Order
from rc2l_bench.data.shards import Shards
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.types import IGNORE

Planes = NDArray[np.uint8]
Sample = tuple[Planes, Planes | None]
"""Image (3, H, W) and mask (H, W)."""
_Task = tuple[int, list[int]]
"""A slot, and the positions of the samples to read into it."""
_Done = tuple[_Task, list[tuple[int, int]]]
"""A task, and the sizes of its samples."""
_AHEAD = 2
"""Batches that each worker reads ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawBatch:
    """Decoded samples, each in the top left corner of the data set's canvas.

    Attributes:
        image: (B, 3, H, W) uint8, 0 outside the picture.
        label: (B, H, W) uint8, class indices, 255 = ignored and outside the picture; None where masks are missing.
        size: (B, 2) int64, height and width of each picture, pixels.
        ids: B sample ids.
    """

    image: Tensor
    label: Tensor | None
    size: Tensor
    ids: tuple[str, ...]


def training_batches(
    shards: Shards,
    ids: Sequence[str],
    *,
    batch: int,
    seed: int,
    stream: str,
    start: int,
    stop: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    cache_mb: int = 0,
) -> Iterator[RawBatch]:
    """The batches start..stop-1 of an endless stream, where each is a pure function of (seed, stream, its number).

    The stream is made of passes: permutations of the ids, laid end to end and cut into batches.

    Args:
        shards: where the samples are.
        ids: those to draw from; their order does not matter.
        batch: images per step over all processes.
        seed: of the cell.
        stream: streams do not influence one another.
        start: number of the first batch, 0 at the beginning of a run.
        stop: number after the last one.
        rank: number of this process; it gets the rows rank·batch/world to (rank+1)·batch/world of every batch.
        world: number of processes.
        workers: processes that read ahead; 0 = read in this one.
        cache_mb: MiB of decoded samples that every reading process may keep.

    Raises:
        UsageError: the batch cannot be shared evenly.
        BenchError: an id is not in the shards, there is none at all, or a shard is damaged.
    """
    if batch % world:
        raise UsageError(f"a batch of {batch} images cannot be shared by {world} processes: make it a multiple")
    if not ids:
        raise BenchError(f"{shards.folder}: no samples to draw batches from")
    unknown = next((identity for identity in ids if identity not in shards.positions), None)
    if unknown is not None:
        raise BenchError(f"{shards.folder}: has no sample '{unknown}': run the stages again")
    positions = np.array(sorted(shards.positions[identity] for identity in ids))
    share = batch // world
    order = Order(len(positions), seed, stream)
    firsts = range(start * batch + rank * share, stop * batch + rank * share, batch)
    chunks = (positions[order.take(first, share)].tolist() for first in firsts)
    return _read_batches(shards, chunks, share, workers, cache_mb)


def evaluation_batches(
    shards: Shards, *, batch: int, rank: int = 0, world: int = 1, workers: int = 0, cache_mb: int = 0
) -> Iterator[RawBatch]:
    """Every sample exactly once over all processes; the last batch may be smaller.

    Args:
        shards: where the samples are.
        batch: images at a time in this process.
        rank: number of this process.
        world: number of processes.
        workers: processes that read ahead; 0 = read in this one.
        cache_mb: MiB of decoded samples that every reading process may keep.

    Raises:
        BenchError: a shard is damaged.
    """
    mine = range(rank, len(shards), world)
    chunks = (list(mine[first : first + batch]) for first in range(0, len(mine), batch))
    return _read_batches(shards, chunks, min(batch, len(mine)), workers, cache_mb)


def _read_batches(
    shards: Shards, chunks: Iterator[list[int]], batch: int, workers: int, cache_mb: int
) -> Iterator[RawBatch]:
    """Reads chunks of at most `batch` samples in order; the workers end when the iterator is closed."""
    slots = _AHEAD * workers + 1
    reader = _Reader(shards, cache_mb, slots, batch)
    found = _start(reader, ((number % slots, chunk) for number, chunk in enumerate(chunks)), workers)
    try:
        while True:
            try:
                item = next(found)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                    raise
                fault = " ".join(str(error).split()) or type(error).__name__
                break
            if isinstance(item, Exception):
                raise item
            yield reader.take(item)
    finally:
        del found
    # Raised out here, because the error above holds on to the iterator, and so to the other workers.
    raise BenchError(f"{shards.folder}: a loader process died ({fault}): try fewer workers")


def _start(reader: _Reader, tasks: Iterator[_Task], workers: int) -> Iterator[Any]:
    with warnings.catch_warnings(), _own_child_handler():
        # The number of workers is the user's choice, also where torch would take fewer.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader = DataLoader(
            reader,
            sampler=tasks,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=_AHEAD if workers else None,
            collate_fn=_unchanged,
            # Its own, because a DataLoader draws from torch's generator otherwise and disturbs what comes after it.
            generator=torch.Generator(),
        )
        return iter(loader)


@contextmanager
def _own_child_handler() -> Iterator[None]:
    """Keeps torch's handler out, which raises wherever this process happens to be when a worker dies.

    Without it the next batch tells, some seconds later.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGCHLD, before)


def _unchanged(item: Any) -> Any:  # noqa: ANN401 - what torch asks for
    return item


class _Reader(Dataset["_Done | Exception"]):
    """Reads batches into memory that the processes share, slot by slot; only the sizes travel from a worker.

    torch would open, map and drop another piece of shared memory for every tensor of every batch, which costs as much
    as decoding. There is one slot more than batches are under way, so that none is written to before it is taken.
    """

    def __init__(self, shards: Shards, cache_mb: int, slots: int, batch: int) -> None:
        self._shards = shards
        self._room = cache_mb << 20
        self._images = torch.empty((slots, batch, 3, *shards.canvas), dtype=torch.uint8)
        self._labels = torch.empty((slots, batch, *shards.canvas), dtype=torch.uint8) if shards.labelled else None
        if slots > 1:
            self._images.share_memory_()  # type: ignore[no-untyped-call]
            if self._labels is not None:
                self._labels.share_memory_()  # type: ignore[no-untyped-call]

    def __getitem__(self, task: _Task) -> _Done | Exception:
        """Fills a slot, or returns what went wrong: torch puts a worker's traceback into the text of what is raised."""
        try:
            return task, [self._fill(task[0], row, position) for row, position in enumerate(task[1])]
        except (BenchError, OSError) as error:
            return error

    def take(self, done: _Done) -> RawBatch:
        """Copies a batch out of its slot."""
        (slot, positions), sizes = done
        return RawBatch(
            image=self._images[slot, : len(positions)].clone(),
            label=None if self._labels is None else self._labels[slot, : len(positions)].clone(),
            size=torch.tensor(sizes),
            ids=tuple(self._shards.ids[position] for position in positions),
        )

    def _fill(self, slot: int, row: int, position: int) -> tuple[int, int]:
        """Puts a sample into a row of a slot and returns its height and width."""
        planes, mask = self._sample(position)
        height, width = planes.shape[1:]
        whole = (height, width) == self._shards.canvas
        image = self._images[slot, row].numpy()
        if not whole:
            image.fill(0)
        image[:, :height, :width] = planes
        if self._labels is not None and mask is not None:
            label = self._labels[slot, row].numpy()
            if not whole:
                label.fill(IGNORE)
            label[:height, :width] = mask
        return height, width

    def _sample(self, position: int) -> Sample:
        kept = _KEPT.setdefault(self._shards, _Kept())
        if position in kept.samples:
            return kept.samples[position]
        planes = self._shards.read_image(position).transpose(2, 0, 1)
        mask = self._shards.read_mask(position) if self._shards.labelled else None
        size = planes.nbytes + (mask.nbytes if mask is not None else 0)
        # Nothing is thrown out for it: passes come round, so what was read last is needed last.
        if sum(other.size for other in _KEPT.values()) + size <= self._room:
            kept.samples[position] = np.ascontiguousarray(planes), mask
            kept.size += size
        return planes, mask


@dataclass(slots=True)
class _Kept:
    samples: dict[int, Sample] = field(default_factory=dict)
    size: int = 0
    """Bytes."""


_KEPT: WeakKeyDictionary[Shards, _Kept] = WeakKeyDictionary()
"""Decoded samples of this process, as long as their shards are in use."""
