"""Regions: made of labels or of a teacher's prediction, cut and pasted, averaged over. Batched throughout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Literal, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rc2l_bench.data.augment import paste
from rc2l_bench.nets.lattice import Lattice, pick
from rc2l_bench.nets.region_net import TINY, Prediction, semantic_scores
from rc2l_bench.types import IGNORE

BOUND = 1e4
"""Logits are clamped to ± this: a sigmoid or a softmax is saturated long before, and no loss overflows."""

P = ParamSpec("P")
T = TypeVar("T")


def in_float32(function: Callable[P, T]) -> Callable[P, T]:
    """Switches autocast off inside a function: sums over pixels overflow float16 and lose digits in bfloat16."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*args, **kwargs)

    return run


def bounded(logits: Tensor) -> Tensor:
    """Any logits -> finite float32 logits in ± `BOUND`; what is not a number becomes 0."""
    return logits.float().nan_to_num(0.0, BOUND, -BOUND).clamp(-BOUND, BOUND)


def mask_probability(mask: Tensor, valid: Tensor) -> Tensor:
    """Mask probabilities m = σ(p), restricted to V.

    Args:
        mask: (B, Q, h, w) mask logits p.
        valid: (B, h, w) bool, V.

    Returns:
        (B, Q, h, w) float32 in [0, 1]; 0 outside of V and where p is not a number.
    """
    # On the logits, so that one tensor, m itself, is all that the backward pass keeps.
    return mask.float().masked_fill(mask.isnan() | ~valid[:, None], -torch.inf).sigmoid()


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """Disjoint regions of every image, padded to the same number R >= 1.

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
        """The regions as masks M, (B, R, h, w) bool."""
        return self.index[:, None] == torch.arange(self.present.shape[1], device=self.index.device)[:, None, None]

    def classes(self) -> Tensor:
        """Which classes an image has a region of, (B, K) bool."""
        one_hot = F.one_hot(self.label, self.probability.shape[-1]).bool()
        return (one_hot & self.present[..., None]).any(1)

    def harden(self) -> Regions:
        """The same regions, sure of their class."""
        one_hot = F.one_hot(self.label, self.probability.shape[-1]).to(self.probability.dtype)
        return replace(self, probability=one_hot * self.present[..., None])

    def shrink(self, lattice: Lattice, size: tuple[int, int] | torch.Size) -> Regions:
        """Take the regions at the cells of a map; a region may lose all its pixels and is still present."""
        return replace(self, index=pick(self.index, lattice, size), valid=pick(self.valid, lattice, size))


@in_float32
def semantic_map(logits: Tensor, mask: Tensor) -> Tensor:
    """S̄(k, x) = S(k, x) / Σ_k' S(k', x), what a softmax over RegionNet's class logits gives.

    Args:
        logits: (B, Q, K + 1) class logits.
        mask: (B, Q, h, w) mask probabilities.

    Returns:
        (B, K, h, w) in [0, 1]; 0 where no mask is.
    """
    scores = semantic_scores(logits, mask)
    return scores / scores.sum(1, keepdim=True).clamp(min=TINY)


def number_regions(index: Tensor, probability: Tensor, valid: Tensor) -> Regions:
    """Drops the empty slots, so that R is the largest number of regions that an image has.

    Args:
        index: (B, h, w) int64; slot 0..n-1 of every pixel, or -1.
        probability: (B, n, K) class distribution of every slot.
        valid: (B, h, w) bool.
    """
    batch, slots = probability.shape[:2]
    used = torch.zeros(batch, slots + 1, dtype=torch.bool, device=index.device)
    used = used.scatter(1, (index + 1).flatten(1), True)[:, 1:]
    most = max(1, int(used.sum(1).max()))
    order = used.long().sort(dim=1, descending=True, stable=True).indices
    renamed = order.argsort(1).gather(1, index.clamp(min=0).flatten(1)).view_as(index)
    present = used.gather(1, order[:, :most])
    probability = probability.gather(1, order[:, :most, None].expand(-1, -1, probability.shape[2]))
    probability = probability * present[..., None]
    index = torch.where(index < 0, index, renamed)
    return Regions(index=index, valid=valid, present=present, label=probability.argmax(-1), probability=probability)


def label_regions(label: Tensor, num_classes: int, ignored: Literal["excluded", "background"]) -> Regions:
    """One region per class present.

    Args:
        label: (B, H, W) int64, 0..K-1 or 255.
        num_classes: K.
        ignored: what becomes of the pixels without a label, see `matching.SetLossConfig`.
    """
    known = label != IGNORE
    one_hot = torch.eye(num_classes, device=label.device).expand(len(label), -1, -1)
    valid = known if ignored == "excluded" else torch.ones_like(known)
    return number_regions(torch.where(known, label, -1), one_hot, valid)


def mix(x: Tensor, box: Tensor) -> Tensor:
    """CutMix of what was seen in the weak view, as every strong view is mixed.

    Args:
        x: (U, C, h, w) or (U, h, w).
        box: (V, U, h, w) bool.

    Returns:
        (V·U, ...) like `x`, the images of the first view first.
    """
    return paste(x.expand(len(box), *x.shape).flatten(0, 1), box.flatten(0, 1))


def class_regions(semantic: Tensor, valid: Tensor, threshold: float) -> Regions:
    """One region per class present in the pseudo-label ŷ = argmax_k S̄(k, ·).

    Pixels where S̄(ŷ) is below the threshold are invalid. The class distribution of a region is the mean of S̄ over it.

    Args:
        semantic: (B, K, h, w) normalised semantic scores S̄.
        valid: (B, h, w) bool.
        threshold: of the confidence, in [0, 1].
    """
    confidence, label = semantic.max(1)
    valid = valid & (confidence >= threshold)
    index = torch.where(valid, label, -1)
    mask = (index[:, None] == torch.arange(semantic.shape[1], device=index.device)[:, None, None]).to(semantic.dtype)
    mean = torch.einsum("brhw,bkhw->brk", mask, semantic) / mask.sum((2, 3)).clamp(min=1)[..., None]
    return number_regions(index, mean, valid)


def query_regions(logits: Tensor, mask: Tensor, valid: Tensor, box: Tensor, threshold: float) -> Regions:
    """One region per confident query of the image, and one per confident query of what was pasted into it.

    A query is confident when its best class is a real one with a probability of at least the threshold. Its region is
    where its mask probability exceeds 1/2; overlaps go to the more probable query; pixels of no region are invalid.
    The class distribution of a region is the query's, without "no object" and divided by its sum.

    Args:
        logits: (U, Q, K + 1) class logits.
        mask: (U, Q, h, w) mask probabilities.
        valid: (U, h, w) bool.
        box: (V, U, h, w) bool; CutMix.
        threshold: of the class probability, in [0, 1].

    Returns:
        Regions of V·U images.
    """
    probability = logits.softmax(-1)
    score, best = probability.max(-1)
    score = score.where((best < logits.shape[-1] - 1) & (score >= threshold), -1.0)
    score, index = score[..., None, None].where(mask > 0.5, -1.0).max(1)
    index = mix(index.where(valid & (score >= 0), -1), box)
    index = index + logits.shape[1] * (box.flatten(0, 1) & (index >= 0))
    real = F.normalize(probability[..., :-1], p=1.0, dim=-1)
    both = torch.cat([real, real.view(-1, 2, *real.shape[1:]).flip(1).flatten(0, 1)], 1)
    return number_regions(index, both.repeat(len(box), 1, 1), index >= 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a teacher says of the strong views, mixed as they are.

    Attributes:
        regions: N_t regions of every image, on the grid of the masks.
        semantic: (B, K, h, w) normalised semantic scores S̄_t.
        features: (B, D, h, w) the teacher's F_t.
    """

    regions: Regions
    semantic: Tensor
    features: Tensor


@in_float32
def read_target(
    seen: Prediction,
    valid: Tensor,
    box: Tensor,
    form: Literal["class", "query"],
    threshold: float,
    targets: Literal["soft", "hard"],
) -> Target:
    """The teacher's regions, cut and pasted with the images.

    Args:
        seen: what the teacher sees in the weak views, U images, without gradient.
        valid: (U, H, W) bool.
        box: (V, U, H, W) bool.
        form: see `class_regions` and `query_regions`.
        threshold: of the confidence, in [0, 1].
        targets: `hard` replaces distributions by the most probable class, and semantic maps by unions of regions.

    Returns:
        The target of V·U images.
    """
    size = seen.features.shape[-2:]
    valid, box = pick(valid, seen.lattice, size), pick(box, seen.lattice, size)
    logits, mask = bounded(seen.logits[:, -1]), mask_probability(seen.mask(), valid)
    semantic = mix(semantic_map(logits, mask), box)
    if form == "class":
        regions = class_regions(semantic, mix(valid, box), threshold)
    else:
        regions = query_regions(logits, mask, valid, box, threshold)
    if targets == "hard":
        regions = regions.harden()
        semantic = torch.einsum("brk,brhw->bkhw", regions.probability, regions.mask().float())
    return Target(regions=regions, semantic=semantic, features=mix(seen.features.float(), box))


@in_float32
def pool(features: Tensor, mask: Tensor) -> Tensor:
    """L2-normalised mask average pooling (MAP): Σ_x m_i(x) F(x) / Σ_x m_i(x), then divided by its length.

    Args:
        features: (B, D, h, w).
        mask: (B, R, h, w), [0, 1].

    Returns:
        (B, R, D) float32; 0 for an empty mask.
    """
    mask = mask.float()
    mean = torch.einsum("brhw,bdhw->brd", mask, features.float()) / mask.sum((2, 3))[..., None].clamp(min=1e-6)
    return F.normalize(mean, dim=-1, eps=1e-6)
