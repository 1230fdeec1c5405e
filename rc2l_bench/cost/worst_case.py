"""Let what depends on the data take its worst case, so that a training step works on tensors without values.

Assumed of every choice that is made by looking at values:

* every image has as many regions as it could have: one per class, or one per query and per query of what was pasted
  into it (RC²L's `query` regions); a smaller number can be asked for;
* every region is matched with a query, and every pixel that a mask could select is selected.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rc2l_bench.losses import matching, regions
from rc2l_bench.losses.regions import Regions

_ATEN = torch.ops.aten
_INDEXING = {_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default, _ATEN._unsafe_index.Tensor}


class WorstCase(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Mode that answers what only values could tell.

    Attributes:
        number: what a number is that is read from a tensor.
        selected: the most elements that a mask selects; more than there are = all.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.number = 1
        self.selected = sys.maxsize

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Carry out an operation, or return what it would give at worst."""
        # What `item()`, `int()` and `float()` of a tensor call.
        if func is _ATEN._local_scalar_dense.default:
            return self.number if not args[0].dtype.is_floating_point else float(self.number)
        if func is _ATEN.nonzero.default:
            return self._select(args[0])
        # Values are zeros: what is selected matters to no size.
        if func is _ATEN.masked_select.default:
            return args[0].new_zeros(min(args[1].numel(), self.selected))
        if func in _INDEXING:
            args = (args[0], self._places(args[1]), *args[2:])
        return func(*args, **(kwargs or {}))

    def _select(self, mask: Tensor) -> Tensor:
        # Place 0 again and again: only the number of places matters, and this one is there in every tensor with
        # elements.
        return torch.zeros(min(mask.numel(), self.selected), mask.ndim, dtype=torch.int64, device=mask.device)

    def _places(self, index: list[Tensor | None]) -> list[Tensor | None]:
        """Turn masks among indices into places: only the number of places can be limited."""
        fields: list[Tensor | None] = []
        for one in index:
            # A mask of n dimensions stands for n indices; torch still takes bytes for a mask, too.
            mask = one is not None and one.dtype in (torch.bool, torch.uint8)
            fields += self._select(one).unbind(1) if one is not None and mask else [one]
        return fields


@contextmanager
def replaced(function: Callable[..., Any], wrapper: Callable[..., Any]) -> Iterator[None]:
    """Replace a function in all modules that imported it by its name.

    Patching its own module would do nothing: `from a import f` has bound the function itself.

    Args:
        function: that is replaced.
        wrapper: that is called instead.
    """
    name = function.__name__
    with ExitStack() as stack:
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get(name) is function:
                stack.enter_context(patch.object(module, name, functools.wraps(function)(wrapper)))
        yield


@contextmanager
def _assume(mode: WorstCase, **values: int) -> Iterator[None]:
    # Put back at the end: elsewhere in the step a mask selects all it could.
    before = {name: getattr(mode, name) for name in values}
    vars(mode).update(values)
    try:
        yield
    finally:
        vars(mode).update(before)


@contextmanager
def worst_case(most_regions: int | None = None) -> Iterator[None]:
    """Let data-dependent choices take their worst case inside; works on real tensors as on fake ones.

    Args:
        most_regions: regions per image; None = as many as there could be.
    """
    mode = WorstCase()
    number = regions.number_regions

    def number_regions(index: Tensor, probability: Tensor, valid: Tensor) -> Regions:
        # The one number that is read there is the largest number of regions.
        slots = probability.shape[1]
        with _assume(mode, number=min(slots, most_regions or slots)):
            return number(index, probability, valid)

    # The mode comes last: it sees every operation, those of the replaced functions too.
    with ExitStack() as stack:
        stack.enter_context(replaced(regions.number_regions, number_regions))
        stack.enter_context(replaced(matching.assign_all, match_in_order))
        stack.enter_context(mode)
        yield


def match_in_order(costs: Sequence[Tensor], presents: Sequence[Tensor]) -> list[Tensor]:  # noqa: ARG001 - as `assign_all`
    """Give region j query j: some assignments, of the form that `matching.assign_all` returns.

    The true ones are found by scipy, from values; which query a region gets changes no size.
    """
    return [_in_order(cost) for cost in costs]


def _in_order(cost: Tensor) -> Tensor:
    order = torch.arange(cost.shape[3], device=cost.device)
    return torch.where(order < cost.shape[2], order, -1).expand(*cost.shape[:2], -1).contiguous()
