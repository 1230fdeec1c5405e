"""Shards + seed + step -> the same batch always, whatever the workers and processes."""

from __future__ import annotations

import math
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rc2l_bench.data.geometry import Geometry
from rc2l_bench.data.reader import EvaluationReader, Finish, Reader, Stream, Task, TrainingReader, Windows
from rc2l_bench.data.selection import everything
from rc2l_bench.data.shards import Shards
from rc2l_bench.data.slots import Parcel, Slots
from rc2l_bench.data.streaming import ImageStream, StreamReader, stream_windows
from rc2l_bench.errors import BenchError, UsageError, one_line
from rc2l_bench.types import Batch

_AHEAD = 2
"""Batches that each worker reads ahead."""
_SHARED = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory


@dataclass(frozen=True, slots=True, kw_only=True)
class RawBatch:
    """Decoded samples of one size.

    Attributes:
        image: (B, 3, H, W) uint8.
        label: (B, H, W) uint8, class indices, 255 = ignored; None where masks are missing.
        size: (B, 2) int64, height and width of each picture, pixels.
        ids: B sample ids.
    """

    image: Tensor
    label: Tensor | None
    size: Tensor
    ids: tuple[str, ...]


def training_batches(
    streams: Sequence[Stream],
    geometry: Geometry,
    *,
    start: int,
    stop: int,
    finish: Finish | None = None,
    workers: int = 0,
    cache_mb: int = 0,
) -> Iterator[Windows | Batch]:
    """Load the steps start..stop-1, each a pure function of (seed, names of the streams, its number).

    Every stream is made of passes, permutations of its samples, laid end to end and cut into batches. Process `rank` of
    `world` gets the rows rank·batch/world to (rank+1)·batch/world of each.

    Args:
        streams: a step has some images of each.
        geometry: draws the crops; knows the seed, this process and their number.
        start: first step, 0 at the beginning of a run.
        stop: number after the last one.
        finish: makes a batch of the windows of a step; called in the workers, and only where there are any.
        workers: processes that read ahead; 0 = read in this one.
        cache_mb: MiB of decoded samples that every reading process may keep.

    Yields:
        What `finish` made, else the windows of this process's images, one list for each stream. Windows are to be used
        before the next step is taken.

    Raises:
        UsageError: a batch cannot be shared evenly.
        BenchError: there is nothing to draw from, or a shard is damaged.
    """
    for stream in streams:
        if stream.batch % geometry.world:
            raise UsageError(
                f"a batch of {stream.batch} images cannot be shared by {geometry.world} processes: make it a multiple"
            )
        if not len(stream.selection):
            raise BenchError(f"{stream.shards.folder}: no samples to draw batches from")
    slots = _share(workers, _bytes_of_step(streams, geometry, finish is not None))
    reader = TrainingReader(streams, geometry, cache_mb, slots, finish if workers else None)
    found = _carry_out(reader, range(start, stop), slots, workers, str(streams[0].shards.folder))
    return (_own(one) for one in found)


def streamed_batches(
    labelled: Stream, stream: ImageStream, share: int, geometry: Geometry, *,
    start: int, stop: int, workers: int = 0, cache_mb: int = 0,
) -> Iterator[Windows]:  # fmt: skip
    """Load the steps start..stop-1 with unlabelled images from a stream, whose order is not that of another run.

    Args:
        labelled: the labelled images, in their exact order.
        stream: where the others come from.
        share: streamed images of this process in each step.
        geometry: draws the crops.
        start: first step.
        stop: number after the last one.
        workers: processes that read ahead from the stream, and one more for the labelled images; 0 = none.
        cache_mb: MiB of decoded labelled samples that are kept.

    Yields:
        Windows of the labelled and of the streamed images; to be used before the next step is taken.

    Raises:
        BenchError: a tar is out of reach or damaged, or holds no image.
    """
    few = training_batches([labelled], geometry, start=start, stop=stop, workers=min(workers, 1), cache_mb=cache_mb)
    images = _carry_out(StreamReader(stream, share), None, None, stream.readers(workers), stream.name)
    with closing(few), closing(images):  # type: ignore[type-var] # both are generators
        for windows, others in zip(few, stream_windows(images, geometry, start, stop), strict=True):
            assert not isinstance(windows, Batch)
            yield [*windows, others]


def evaluation_batches(
    shards: Shards, *, batch: int, rank: int = 0, world: int = 1, workers: int = 0, cache_mb: int = 0
) -> Iterator[RawBatch]:
    """Load every sample exactly once over all processes, those of one size together.

    Args:
        shards: where the samples are.
        batch: images at a time in this process, at most.
        rank: number of this process.
        world: number of processes.
        workers: processes that read ahead; 0 = read in this one.
        cache_mb: MiB of decoded samples that every reading process may keep.

    Raises:
        BenchError: a shard is damaged.
    """
    mine = everything(len(shards))[torch.arange(rank, len(shards), world).numpy()]
    groups = [mine[first : first + batch] for first in range(0, len(mine), batch)]
    slots = _share(workers, batch * (4 * shards.most_pixels + 4096))
    reader = EvaluationReader(shards, groups, cache_mb, slots)
    for found in _carry_out(reader, range(len(groups)), slots, workers, str(shards.folder)):
        for group in found:
            size = torch.tensor(group.image.shape[-2:]).expand(len(group.ids), 2)
            label = None if group.label is None else torch.from_numpy(group.label).clone()
            yield RawBatch(image=torch.from_numpy(group.image).clone(), label=label, size=size, ids=group.ids)


def _own(found: Windows | dict[str, Any]) -> Windows | Batch:
    """Windows as they are; a batch copied out of its slot, because nobody knows what a method keeps of it."""
    if isinstance(found, dict):
        return Batch(**{name: torch.from_numpy(array).clone() for name, array in found.items()})
    return found


def _bytes_of_step(streams: Sequence[Stream], geometry: Geometry, finished: bool) -> int:
    """Upper bound for what is handed over at each step; what is larger travels another way, more slowly."""
    protocol = geometry.protocol
    crop, images = math.prod(protocol.crop), sum(stream.batch for stream in streams) // geometry.world
    if finished:  # float colours of the weak and of at most four strong views, labels of 8 bytes, boxes
        return images * (crop * (3 * 4 * 5 + 8 + 5) + 4096)
    smallest = protocol.weak.scale[0] * protocol.image_scale
    canvas = [max(stream.shards.largest[axis] for stream in streams) for axis in (0, 1)]
    sides = [min(most, math.ceil(length / smallest) + 2) for most, length in zip(canvas, protocol.crop, strict=True)]
    return images * (3 * sides[0] * sides[1] + crop + 64 * sum(protocol.crop) + 4096)


def _share(workers: int, capacity: int) -> Slots | None:
    """Memory for what is under way: one slot more than that, so that none is written to before it is taken."""
    if not workers:
        return None
    count = _AHEAD * workers + 1
    free = shutil.disk_usage(_SHARED).free if _SHARED.is_dir() else math.inf
    if count * capacity > free:
        raise UsageError(
            f"runtime.workers: {workers} workers need {count * capacity >> 20} MiB of shared memory, {_SHARED} has "
            f"{int(free) >> 20} free: fewer workers, or a larger {_SHARED} (docker run --shm-size)"
        )
    return Slots(count, capacity)


def _carry_out(
    reader: Reader | StreamReader, numbers: range | None, slots: Slots | None, workers: int, name: str
) -> Iterator[Any]:
    """Carry out tasks in order, or take what a stream gives; the workers end when the iterator is closed."""
    count = _AHEAD * workers + 1
    tasks = None if numbers is None else ((number % count, number) for number in numbers)
    found = _start(reader, tasks, workers)
    try:
        while True:
            try:
                item = next(found)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                    raise
                fault = one_line(error)
                break
            if isinstance(item, Exception):
                raise item
            yield slots.take(item) if slots is not None and isinstance(item, Parcel) else item
    finally:
        del found
    # Raised out here, because the error above holds on to the iterator, and so to the other workers.
    raise BenchError(f"{name}: a loader process died ({fault}): try fewer workers")


def _start(reader: Reader | StreamReader, tasks: Iterator[Task] | None, workers: int) -> Iterator[Any]:
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
