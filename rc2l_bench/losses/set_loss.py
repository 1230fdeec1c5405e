"""MaskFormer's set loss: every decoder layer is matched with the regions of the truth and supervised for itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rc2l_bench.losses.mask_loss import focal_and_dice
from rc2l_bench.losses.matching import SetLossConfig, match_regions
from rc2l_bench.losses.regions import Regions, bounded, in_float32, label_regions
from rc2l_bench.nets.backbone import resize
from rc2l_bench.nets.region_net import Prediction
from rc2l_bench.processes import total, world


def class_loss(logits: Tensor, truth: Regions, match: Tensor, config: SetLossConfig) -> Tensor:
    """Compute the cross-entropy of every query of every layer, "no object" weighted down; summed over layers.

    Args:
        logits: (B, S, Q, K + 1).
        truth: R regions.
        match: (B, S, R).
        config: weights. Images without a labelled pixel say nothing of objects, unless ignored pixels are background.
    """
    layers, queries, last = logits.shape[1], logits.shape[2], logits.shape[3] - 1
    target = torch.full((*match.shape[:2], queries + 1), last, device=match.device)
    label = truth.label[:, None].expand_as(match)
    target = target.scatter(-1, match.where(match >= 0, queries), label)[..., :-1]
    weight = torch.where(target == last, config.no_object, 1.0) * truth.valid.flatten(1).any(1)[:, None, None]
    loss = F.cross_entropy(bounded(logits).flatten(0, 2), target.flatten(), reduction="none")
    return layers * (loss * weight.flatten()).sum() * world() / total(weight.sum()).clamp(min=1e-6)


def mask_losses(seen: Prediction, truth: Regions, match: Tensor) -> tuple[Tensor, Tensor]:
    """Compute focal and dice loss of matched masks at the labels' resolution, over the valid pixels, for all layers.

    Args:
        seen: of the student, S layers.
        truth: R regions at the labels' resolution.
        match: (B, S, R).

    Returns:
        Two scalars: Σ over masks / the number of regions (average over processes).
    """
    image, region = truth.present.nonzero(as_tuple=True)  # P regions
    index = match.clamp(min=0)[..., None].expand(-1, -1, -1, seen.embedding.shape[-1])
    # Masks of matched queries only: the others need no gradient.
    mask = torch.einsum("bsrd,bdhw->brshw", seen.embedding.gather(2, index), seen.features)[image, region]
    x = resize(bounded(mask), truth.index.shape[-2:]).flatten(2)  # (P, S, H·W)
    target = (truth.index[image] == region[:, None, None]).flatten(1)[:, None]
    valid = truth.valid[image].flatten(1)[:, None]
    focal, dice = focal_and_dice(x, (target & valid).float(), (~target & valid).float())
    taken = match[image, :, region] >= 0
    count = (total(truth.present.sum()) / world()).clamp(min=1)
    return (focal * taken).sum() / count, (dice * taken).sum() / count


@in_float32
def set_loss(seen: Prediction, label: Tensor, config: SetLossConfig) -> Tensor:
    """Compute MaskFormer's supervised loss.

    Σ_layers [ w_class · CE + w_focal · focal + w_dice · dice ]

    Args:
        seen: of the student, B images.
        label: (B, H, W) int64, 0..K-1 or 255.
        config: weights, and what becomes of ignored pixels.

    Returns:
        Scalar float32, finite for any logits.
    """
    truth = label_regions(label, seen.logits.shape[-1] - 1, config.ignored)
    small = truth.shrink(seen.features.shape[-2:])
    match = match_regions(seen, small, config, list(range(seen.logits.shape[1])))
    focal, dice = mask_losses(seen, truth, match)
    return (
        config.class_weight * class_loss(seen.logits, truth, match, config)
        + config.focal_weight * focal
        + config.dice_weight * dice
    )
