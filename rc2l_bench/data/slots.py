"""Memory that loader processes share with the training process, so that arrays travel without being sent.

torch would open, map and drop another piece of shared memory for every tensor of every batch, which costs as much as
decoding. Here everything is mapped once; only the small rest of an object (its pickle without the arrays) is sent.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import torch

_ALIGNED = 64
"""Bytes; vector instructions like arrays that begin at a multiple."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is sent of an object.

    Attributes:
        slot: where its arrays lie.
        head: its pickle without the arrays.
        sizes: bytes of each array, one after the other in the slot, each begun at a multiple of 64.
        loose: the arrays themselves, where the slot is too small for them.
    """

    slot: int
    head: bytes
    sizes: tuple[int, ...]
    loose: tuple[bytes, ...] | None


class Slots:
    """Pieces of shared memory of one size, each for one object at a time. May be used after a fork, and pickled."""

    def __init__(self, count: int, capacity: int) -> None:
        """Map the memory; pages count when they are written to first.

        Args:
            count: number of slots.
            capacity: bytes of each.
        """
        self._memory = torch.empty((count, max(1, capacity)), dtype=torch.uint8)
        self._memory.share_memory_()  # type: ignore[no-untyped-call]

    def put(self, slot: int, item: Any) -> Parcel:  # noqa: ANN401 - anything that can be pickled
        """Write the arrays of an object (contiguous ones of numpy) into a slot, over what was there."""
        arrays: list[pickle.PickleBuffer] = []
        head = pickle.dumps(item, protocol=5, buffer_callback=arrays.append)
        raws = [array.raw() for array in arrays]
        sizes = tuple(raw.nbytes for raw in raws)
        if sum(map(_rounded, sizes)) > self._memory.shape[1]:
            return Parcel(slot, head, sizes, tuple(raw.tobytes() for raw in raws))
        memory, start = self._view(slot), 0
        for raw in raws:
            memory[start : start + raw.nbytes] = raw
            start += _rounded(raw.nbytes)
        return Parcel(slot, head, sizes, None)

    def take(self, parcel: Parcel) -> Any:  # noqa: ANN401 - what was put in
        """Rebuild an object. Its arrays lie in the slot: they are right until something else is put there."""
        if parcel.loose is not None:
            return pickle.loads(parcel.head, buffers=map(bytearray, parcel.loose))  # noqa: S301 - our own process's
        memory, start, arrays = self._view(parcel.slot), 0, []
        for size in parcel.sizes:
            arrays.append(memory[start : start + size])
            start += _rounded(size)
        return pickle.loads(parcel.head, buffers=arrays)  # noqa: S301 - a pickle of our own process

    def _view(self, slot: int) -> memoryview:
        memory: Any = self._memory[slot].numpy()
        return memoryview(memory)


def _rounded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
