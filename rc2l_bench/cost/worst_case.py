"""Let what depends on the data take its worst case, so that a training step works on tensors without values.

Assumed of every choice that is made by looking at values:

* every image has as many regions as it could have: one per class, or one per query and per query of what was pasted
  into it (RC²L's `query` regions); a smaller number can be asked for;
* every region is matched with a query, and every pixel that a mask could select is selected.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rc2l_bench.losses.matching import Match, Matching
from rc2l_bench.losses.regions import Regions
from rc2l_bench.nets import memory_bank

_ATEN = torch.ops.aten
_INDEXING = {_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default, _ATEN._unsafe_index.Tensor}


class WorstCase(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Mode that answers what only values could tell: a number that is read is 1, a mask selects all."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Carry out an operation, or return what it would give at worst."""
        # What `item()`, `int()` and `float()` of a tensor call.
        if func is _ATEN._local_scalar_dense.default:
            return 1.0 if args[0].dtype.is_floating_point else 1
        if func is _ATEN.nonzero.default:
            return self._select(args[0])
        # Values are zeros: what is selected matters to no size.
        if func is _ATEN.masked_select.default:
            return args[0].new_zeros(args[1].numel())
        if func in _INDEXING:
            args = (args[0], self._places(args[1]), *args[2:])
        return func(*args, **(kwargs or {}))

    def _select(self, mask: Tensor) -> Tensor:
        # Place 0 again and again: only the number of places matters, and this one is there in every tensor with
        # elements.
        return torch.zeros(mask.numel(), mask.ndim, dtype=torch.int64, device=mask.device)

    def _places(self, index: list[Tensor | None]) -> list[Tensor | None]:
        """Turn masks among indices into places, of which there are no values to look for."""
        fields: list[Tensor | None] = []
        for one in index:
            # A mask of n dimensions stands for n indices; torch still takes bytes for a mask, too.
            mask = one is not None and one.dtype in (torch.bool, torch.uint8)
            fields += self._select(one).unbind(1) if one is not None and mask else [one]
        return fields


@contextmanager
def worst_case(most_regions: int | None = None) -> Iterator[None]:
    """Let data-dependent choices take their worst case inside; works on real tensors as on fake ones.

    Args:
        most_regions: regions per image; None = as many as there could be.
    """

    def solve(matching: Matching, which: int) -> Match:
        return match_in_order(matching.regions[which], matching.shapes[which], most_regions)

    def all_of(mask: Tensor) -> list[int]:
        return [mask.shape[1]] * len(mask)

    # The mode comes last: it sees every operation, those of the replaced functions too.
    with (
        patch.object(Matching, "solve", solve),
        patch.object(memory_bank, "count_trues", all_of),
        WorstCase(),  # type: ignore[no-untyped-call]
    ):
        yield


def match_in_order(regions: Regions, shape: torch.Size, most_regions: int | None) -> Match:
    """Give region j query j: some match, of the form that `Matching.solve` returns.

    The true one is found by scipy, from values; which query a region gets changes no size.
    """
    images, layers, queries, slots = shape
    device = regions.label.device
    count = min(slots, most_regions or slots)
    order = torch.arange(count, device=device)
    return Match(
        regions=regions.first(count),
        query=torch.where(order < queries, order, -1).expand(images, layers, -1).contiguous(),
        image=torch.arange(images, device=device).repeat_interleave(count),
        region=order.repeat(images),
        classes=min(count, regions.probability.shape[-1]),
    )
