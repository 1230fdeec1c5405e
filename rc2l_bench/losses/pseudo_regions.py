"""The regions that a teacher finds in weak views, cut and pasted like the strong views."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rc2l_bench.data.augment import paste
from rc2l_bench.losses.regions import Regions, bounded, in_float32, mask_probability, number_regions
from rc2l_bench.nets.lattice import pick
from rc2l_bench.nets.region_net import TINY, Prediction, semantic_scores


@in_float32
def semantic_map(logits: Tensor, mask: Tensor) -> Tensor:
    """Divide semantic scores by their sum: S̄(k, x) = S(k, x) / Σ_k' S(k', x), a softmax over RegionNet's class logits.

    Args:
        logits: (B, Q, K + 1) class logits.
        mask: (B, Q, h, w) mask probabilities.

    Returns:
        (B, K, h, w) in [0, 1]; 0 where no mask is.
    """
    scores = semantic_scores(logits, mask)
    return scores / scores.sum(1, keepdim=True).clamp(min=TINY)


def mix(x: Tensor, box: Tensor) -> Tensor:
    """Apply CutMix to what was seen in the weak view, as every strong view is mixed.

    Args:
        x: (U, C, h, w) or (U, h, w).
        box: (V, U, h, w) bool.

    Returns:
        (V·U, ...) like `x`, the images of the first view first.
    """
    return paste(x.expand(len(box), *x.shape).flatten(0, 1), box.flatten(0, 1))


def class_regions(semantic: Tensor, valid: Tensor, threshold: float) -> Regions:
    """Make one region per class present in the pseudo-label ŷ = argmax_k S̄(k, ·).

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
    """Make one region per confident query of the image, and one per confident query of what was pasted into it.

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


@in_float32
def teacher_regions(
    seen: Prediction, valid: Tensor, box: Tensor, form: Literal["class", "query"], threshold: float
) -> Regions:
    """Read the teacher's regions z^t = {(c_i, M_i)} of the strong views, on the grid of the masks.

    `class` mixes semantic scores and then makes regions, so that a class has one region in a mixed image; `query` makes
    regions and then cuts and pastes them.

    Args:
        seen: what the teacher sees in the weak views, U images, without gradient.
        valid: (U, H, W) bool.
        box: (V, U, H, W) bool.
        form: see `class_regions` and `query_regions`.
        threshold: of the confidence, in [0, 1].

    Returns:
        Regions of V·U images.
    """
    size = seen.features.shape[-2:]
    valid, box = pick(valid, seen.lattice, size), pick(box, seen.lattice, size)
    logits, mask = bounded(seen.logits[:, -1]), mask_probability(seen.mask(), valid)
    if form == "query":
        return query_regions(logits, mask, valid, box, threshold)
    return class_regions(mix(semantic_map(logits, mask), box), mix(valid, box), threshold)


def merge_classes(regions: Regions, most: int) -> tuple[Regions, Tensor]:
    """Join the regions of one class: the semantic masks of the classes of an image.

    Args:
        regions: R of every image.
        most: R', at least as many as the image with the most classes has.

    Returns:
        One region per class present, and (B, R') how many of the given regions it is made of; 0 for padding.
    """
    classes = regions.probability.shape[-1]
    label = regions.label.gather(1, regions.index.clamp(min=0).flatten(1)).view_as(regions.index)
    one_hot = torch.eye(classes, device=label.device).expand(len(label), -1, -1)
    merged = number_regions(label.where(regions.index >= 0, -1), one_hot, regions.valid).first(most)
    same = (merged.label[:, :, None] == regions.label[:, None]) & regions.present[:, None]
    return merged, same.sum(-1) * merged.present
