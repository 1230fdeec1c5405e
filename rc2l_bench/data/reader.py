"""What a loader process does: reads the samples of a step, decodes them, and cuts out what their crops need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from rc2l_bench.data.geometry import Geometry, Window, cut
from rc2l_bench.data.joint import JointShards
from rc2l_bench.data.order import Numbers, Order
from rc2l_bench.data.selection import Selection
from rc2l_bench.data.shards import Shards
from rc2l_bench.data.slots import Parcel, Slots
from rc2l_bench.errors import BenchError
from rc2l_bench.types import Batch

Planes = NDArray[np.uint8]
Decoded = tuple[Planes, Planes | None]
"""Image (H, W, 3) and mask (H, W)."""
Windows = list[list[Window]]
"""One list for each stream."""
Arrays = dict[str, NDArray[Any]]
"""The fields of a `Batch`."""
Work = Windows | Arrays | list["Group"]
Finish = Callable[[Windows, int], Batch]
"""Makes a batch of the windows of a step."""
Task = tuple[int, int]
"""A slot, and the number of a step or of a group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Samples that a training draws from, again and again.

    Attributes:
        name: streams of other names have other orders.
        shards: where the samples are.
        selection: those to draw from.
        batch: images per step over all processes.
    """

    name: str
    shards: Shards | JointShards
    selection: Selection
    batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Decoded samples of one size.

    Attributes:
        image: (B, 3, H, W) uint8.
        label: (B, H, W) uint8, class indices and 255; None where masks are missing.
        ids: B sample ids.
    """

    image: Planes
    label: Planes | None
    ids: tuple[str, ...]


class Reader(Dataset["Parcel | Work | Exception"], ABC):
    """Carries out tasks, and hands over what went wrong: torch adds a worker's traceback to what is raised."""

    def __init__(self, cache_mb: int, slots: Slots | None) -> None:
        """Say how to hand over.

        Args:
            cache_mb: MiB of decoded samples that every reading process may keep.
            slots: memory to hand arrays over in; None = within one process.
        """
        self._room, self._slots = cache_mb << 20, slots

    def __getitem__(self, task: Task) -> Parcel | Work | Exception:
        """Carry out a task."""
        slot, number = task
        try:
            found = self.work(number)
        except (BenchError, OSError) as error:
            return error
        return found if self._slots is None else self._slots.put(slot, found)

    @abstractmethod
    def work(self, number: int) -> Work:
        """Do what a task asks for."""

    def decode(self, shards: Shards | JointShards, positions: Numbers) -> Iterator[Decoded]:
        """Decode samples one at a time, unless they are kept; their files are read together."""
        kept = _KEPT.setdefault(shards, _Kept())
        there = {position: kept.samples.get(position) for position in positions.tolist()}
        missing = [place for place, sample in there.items() if sample is None]
        files = dict(zip(missing, shards.read(missing), strict=True))
        for position in positions.tolist():
            if (found := there[position]) is not None:
                yield found
                continue
            sample = files[position].decode_image(), files[position].decode_mask() if shards.labelled else None
            size = sum(part.nbytes for part in sample if part is not None)
            # Nothing is thrown out for it: passes come round, so what was read last is needed last.
            if sum(other.size for other in _KEPT.values()) + size <= self._room:
                kept.samples[position] = sample
                kept.size += size
            yield sample


class TrainingReader(Reader):
    """Reads the windows of a step; may make the batch of them as well."""

    def __init__(
        self,
        streams: Sequence[Stream],
        geometry: Geometry,
        cache_mb: int,
        slots: Slots | None,
        finish: Finish | None,
    ) -> None:
        """Say what to read.

        Args:
            streams: a step has some images of each.
            geometry: draws the crops.
            cache_mb: see `Reader`.
            slots: see `Reader`.
            finish: what makes a batch of the windows, here and now; None = that is done elsewhere.
        """
        super().__init__(cache_mb, slots)
        self._streams, self._geometry, self._finish = streams, geometry, finish
        self._orders = [Order(len(stream.selection), geometry.seed, stream.name) for stream in streams]

    def work(self, number: int) -> Windows | Arrays:
        """Read the windows of this process's images of step `number`, or the arrays of its batch."""
        windows = [self._windows(*pair, number) for pair in zip(self._streams, self._orders, strict=True)]
        if self._finish is None:
            return windows
        batch = self._finish(windows, number)
        return {name: getattr(batch, name).numpy() for name in Batch.__slots__}

    def _windows(self, stream: Stream, order: Order, step: int) -> list[Window]:
        geometry, shards = self._geometry, stream.shards
        share = stream.batch // geometry.world
        first = step * stream.batch + geometry.rank * share
        positions = stream.selection[order.take(first, share)]
        frames = geometry.frames(stream.name, step, torch.from_numpy(shards.sizes(positions)))
        ids = [shards.ids[position] for position in positions.tolist()]
        samples = self.decode(shards, positions)
        return [cut(name, frame, *sample) for name, frame, sample in zip(ids, frames, samples, strict=True)]


class EvaluationReader(Reader):
    """Reads whole samples, group by group."""

    def __init__(self, shards: Shards, groups: Sequence[Numbers], cache_mb: int, slots: Slots | None) -> None:
        """Say what to read: positions by group."""
        super().__init__(cache_mb, slots)
        self._shards, self._groups = shards, groups

    def work(self, number: int) -> list[Group]:
        """Read the samples of a group, those of one size together."""
        positions = self._groups[number]
        sizes = [tuple(size) for size in self._shards.sizes(positions).tolist()]
        samples = list(self.decode(self._shards, positions))
        rows_of = {size: [row for row, own in enumerate(sizes) if own == size] for size in sorted(set(sizes))}
        return [self._group(positions[rows], [samples[row] for row in rows]) for rows in rows_of.values()]

    def _group(self, positions: Numbers, samples: list[Decoded]) -> Group:
        masks = [mask for _, mask in samples if mask is not None]
        return Group(
            image=np.ascontiguousarray(np.stack([image for image, _ in samples]).transpose(0, 3, 1, 2)),
            label=np.stack(masks) if masks else None,
            ids=tuple(self._shards.ids[position] for position in positions.tolist()),
        )


@dataclass(slots=True)
class _Kept:
    samples: dict[int, Decoded] = field(default_factory=dict)
    size: int = 0
    """Bytes."""


_KEPT: WeakKeyDictionary[Shards | JointShards, _Kept] = WeakKeyDictionary()
"""Decoded samples of this process, as long as their shards are in use."""
