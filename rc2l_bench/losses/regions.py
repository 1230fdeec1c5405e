"""Regions of a batch of images: their form, what they are made of, and averages over them. Batched throughout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Literal, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rc2l_bench.nets.lattice import Lattice, pick
from rc2l_bench.types import IGNORE

BOUND = 1e4
"""Logits are clamped to ± this: a sigmoid or a softmax is saturated long before, and no loss overflows."""

P = ParamSpec("P")
T = TypeVar("T")


def in_float32(function: Callable[P, T]) -> Callable[P, T]:
    """Switch autocast off inside a function: sums over pixels overflow float16 and lose digits in bfloat16."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*args, **kwargs)

    return run


def wide(x: Tensor) -> Tensor:
    """Return float32 for half precisions and integers; float64 stays, so that gradients can be checked in it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def bounded(logits: Tensor) -> Tensor:
    """Make any logits finite and at least float32: clamp them to ± `BOUND`, and read what is not a number as 0."""
    x = wide(logits)
    return x.masked_fill(x.isnan(), 0.0).clamp(-BOUND, BOUND)


def mask_probability(mask: Tensor, valid: Tensor) -> Tensor:
    """Compute mask probabilities m = σ(p), restricted to V.

    Args:
        mask: (B, Q, h, w) mask logits p.
        valid: (B, h, w) bool, V.

    Returns:
        (B, Q, h, w) at least float32, in [0, 1]; 0 outside of V and where p is not a number.
    """
    # On the logits, so that one tensor, m itself, is all that the backward pass keeps.
    return wide(mask).masked_fill(mask.isnan() | ~valid[:, None], -torch.inf).sigmoid()


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """Disjoint regions of every image, padded behind to the same number R >= 1.

    Attributes:
        index: (B, h, w) int64; the region 0..R-1 that a pixel belongs to, or -1.
        valid: (B, h, w) bool; V, the pixels that take part.
        present: (B, R) bool; False for padding.
        label: (B, R) int64, 0..K-1; 0 for padding.
        probability: (B, R, K) float; class distribution of a region; 0 for padding.
    """

    index: Tensor
    valid: Tensor
    present: Tensor
    label: Tensor
    probability: Tensor

    def mask(self) -> Tensor:
        """Return the regions as masks M, (B, R, h, w) bool."""
        return self.index[:, None] == torch.arange(self.present.shape[1], device=self.index.device)[:, None, None]

    def classes(self) -> Tensor:
        """Tell which classes an image has a region of, (B, K) bool."""
        return (one_hot(self.label, self.probability.shape[-1]) & self.present[..., None]).any(1)

    def harden(self) -> Regions:
        """Return the same regions, sure of their class."""
        sure = one_hot(self.label, self.probability.shape[-1]).to(self.probability.dtype)
        return replace(self, probability=sure * self.present[..., None])

    def first(self, count: int) -> Regions:
        """Take the first regions of every image: the others are padding where no image has more."""
        rows = {name: getattr(self, name)[:, :count] for name in ("present", "label", "probability")}
        return replace(self, **rows)

    def shrink(self, lattice: Lattice, size: tuple[int, int] | torch.Size) -> Regions:
        """Take the regions at the cells of a map; a region may lose all its pixels and is still present."""
        return replace(self, index=pick(self.index, lattice, size), valid=pick(self.valid, lattice, size))


def one_hot(index: Tensor, count: int) -> Tensor:
    """Mark places (...,) of 0..count - 1 in (..., count) bool; torch's own asks for the largest one first."""
    return index[..., None] == torch.arange(count, device=index.device)


def number_regions(index: Tensor, probability: Tensor, valid: Tensor) -> Regions:
    """Make regions of the slots that have a pixel, in their order; R stays the number of slots.

    How many there are only the device knows: the host is told along with the costs of matching, see `matching`.

    Args:
        index: (B, h, w) int64; slot 0..n-1 of every pixel, or -1.
        probability: (B, n, K) class distribution of every slot.
        valid: (B, h, w) bool.
    """
    batch, slots = probability.shape[:2]
    used = torch.zeros(batch, slots + 1, dtype=torch.bool, device=index.device)
    used = used.scatter(1, (index + 1).flatten(1), True)[:, 1:]
    order = used.long().sort(dim=1, descending=True, stable=True).indices
    renamed = order.argsort(1).gather(1, index.clamp(min=0).flatten(1)).view_as(index)
    present = used.gather(1, order)
    probability = probability.gather(1, order[..., None].expand_as(probability)) * present[..., None]
    index = torch.where(index < 0, index, renamed)
    return Regions(index=index, valid=valid, present=present, label=probability.argmax(-1), probability=probability)


def label_regions(label: Tensor, num_classes: int, ignored: Literal["excluded", "background"]) -> Regions:
    """Make one region per class present.

    Args:
        label: (B, H, W) int64, 0..K-1 or 255.
        num_classes: K.
        ignored: what becomes of the pixels without a label, see `matching.SetLossConfig`.
    """
    known = label != IGNORE
    sure = torch.eye(num_classes, device=label.device).expand(len(label), -1, -1)
    valid = known if ignored == "excluded" else torch.ones_like(known)
    return number_regions(torch.where(known, label, -1), sure, valid)


def of_query(x: Tensor, match: Tensor) -> Tensor:
    """Pick from values of queries (B, Q, ...) those of the query of every region, (B, R, ...); any for -1."""
    index = match.clamp(min=0)[(...,) + (None,) * (x.ndim - 2)].expand(-1, -1, *x.shape[2:])
    return x.gather(1, index)


@in_float32
def pool(features: Tensor, mask: Tensor) -> Tensor:
    """Average features over masks (MAP): Σ_x m_i(x) F(x) / Σ_x m_i(x), then divided by its length.

    Args:
        features: (B, D, h, w).
        mask: (B, R, h, w), [0, 1].

    Returns:
        (B, R, D) at least float32; 0 for an empty mask.
    """
    features = wide(features)
    mask = mask.to(features.dtype)
    mean = torch.einsum("brhw,bdhw->brd", mask, features) / mask.sum((2, 3))[..., None].clamp(min=1e-6)
    return F.normalize(mean, dim=-1, eps=1e-6)
