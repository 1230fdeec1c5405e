"""Which samples of a set a stream draws from, without a list of them all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rc2l_bench.data.order import Numbers


class Selection:
    """Some of the positions 0..total-1 in rising order: those of a list, or all but those of a list.

    Memory and time grow with the list, not with the total.
    """

    def __init__(self, total: int, positions: Sequence[int] | Numbers, *, without: bool = False) -> None:
        """Choose.

        Args:
            total: samples in the set.
            positions: each at most once, in any order.
            without: take all others instead.
        """
        self._list: Numbers = np.unique(np.asarray(positions, np.int64))
        assert len(self._list) == len(positions), "a position is there twice"
        assert not len(self._list) or (self._list[0] >= 0 and self._list[-1] < total), total
        self._without, self._total = without, total
        self._length = total - len(self._list) if without else len(self._list)
        # Of a gap at the i-th listed position p, p - i others lie before it.
        self._before = self._list - np.arange(len(self._list))

    def __len__(self) -> int:
        return self._length

    @property
    def left_out(self) -> Numbers:
        """The positions that are not chosen, in rising order; of a list, this takes memory for all that are there."""
        return self._list if self._without else np.setdiff1d(np.arange(self._total), self._list, assume_unique=True)

    def __getitem__(self, numbers: Numbers) -> Numbers:
        """Give the positions of the (N,) numbers 0..len-1 of the selection."""
        if self._without:
            return numbers + np.searchsorted(self._before, numbers, side="right")
        found: Numbers = self._list[numbers]
        return found


def everything(total: int) -> Selection:
    """Choose all samples of a set."""
    return Selection(total, [], without=True)
