"""Several sets of shards as one: the training images of a data set, and those of its pool."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from rc2l_bench.data.order import Numbers
from rc2l_bench.data.sample_table import LazyIds
from rc2l_bench.data.selection import Selection
from rc2l_bench.data.shards import Encoded, Shards


class JointShards:
    """Sets of shards, one after the other; reads what `Shards` reads, by positions from 0 to the sum of their lengths.

    Ids may come more than once: those of different sets do not know of one another.
    """

    def __init__(self, parts: Sequence[Shards]) -> None:
        """Join sets, at least one; none of them may be labelled as a whole, because masks would be lost."""
        assert parts
        self.parts = tuple(parts)
        self.folder = parts[0].folder
        self.labelled = False
        self._starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def largest(self) -> tuple[int, int]:
        """Height and width that every image fits into, pixels."""
        heights, widths = zip(*(part.largest for part in self.parts), strict=True)
        return max(heights), max(widths)

    @cached_property
    def ids(self) -> Sequence[str]:
        """Ids by position."""
        return _JointIds(self)

    def locate(self, position: int) -> tuple[Shards, int]:
        """Find the set of a position, and the position there."""
        number = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self.parts[number], position - int(self._starts[number])

    def sizes(self, positions: Numbers) -> Numbers:
        """See `Shards.sizes`."""
        found = [part.sizes(np.array([place])) for part, place in map(self.locate, positions.tolist())]
        return np.concatenate(found) if found else np.zeros((0, 2), np.int64)

    def read(self, positions: Iterable[int]) -> list[Encoded]:
        """See `Shards.read`; what lies in one set is read together."""
        positions = list(positions)
        located = [self.locate(position) for position in positions]
        found: dict[int, Encoded] = {}
        for part in self.parts:
            mine = [(at, place) for at, (owner, place) in enumerate(located) if owner is part]
            files = part.read([place for _, place in mine]) if mine else []
            found.update(zip((at for at, _ in mine), files, strict=True))
        return [found[at] for at in range(len(positions))]

    def without(self, own: Selection, hashes: Iterable[bytes]) -> tuple[Selection, int]:
        """Choose of the first set what is selected there, and of the others all whose images have none of some hashes.

        Args:
            own: of the first set.
            hashes: sha256 of images that must not be learnt from in this way: those that are labelled or scored.

        Returns:
            The selection, and how many images of the other sets are left out.
        """
        wanted = list(hashes)
        others = zip(self.parts[1:], self._starts[1:], strict=False)
        twins = [part.table.with_hashes(wanted) + start for part, start in others]
        excluded = np.concatenate([own.left_out, *twins]).astype(np.int64)
        return Selection(len(self), excluded, without=True), sum(map(len, twins))


class _JointIds(LazyIds):
    def __init__(self, joint: JointShards) -> None:
        self._joint = joint

    def __len__(self) -> int:
        return len(self._joint)

    def _read(self, position: int) -> str:
        part, place = self._joint.locate(position)
        return part.ids[place]
