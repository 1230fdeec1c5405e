"""MaskFormer's set loss: every decoder layer is matched with the regions of the truth and supervised for itself."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rc2l_bench.losses.mask_loss import focal_and_dice
from rc2l_bench.losses.matching import Match, Matching, SetLossConfig, layer_costs
from rc2l_bench.losses.regions import Regions, bounded, in_float32, label_regions
from rc2l_bench.nets.lattice import PIXELS, Lattice, resample
from rc2l_bench.nets.region_net import Prediction
from rc2l_bench.processes import total, world

PIECE = 2**22
"""Pixels of masks at the labels' resolution that are compared at a time, all layers counted; bounds memory."""


def class_loss(logits: Tensor, match: Match, config: SetLossConfig) -> Tensor:
    """Compute the cross-entropy of every query of every layer, "no object" weighted down; summed over layers.

    Args:
        logits: (B, S, Q, K + 1).
        match: of the truth's regions.
        config: weights. Images without a labelled pixel say nothing of objects, unless ignored pixels are background.
    """
    truth, query = match.regions, match.query
    layers, queries, last = logits.shape[1], logits.shape[2], logits.shape[3] - 1
    # One slot more than there are queries takes the regions that are left over, and is cut off again.
    target = torch.full((*query.shape[:2], queries + 1), last, device=query.device)
    label = truth.label[:, None].expand_as(query)
    target = target.scatter(-1, query.where(query >= 0, queries), label)[..., :-1]
    weight = torch.where(target == last, config.no_object, 1.0) * truth.valid.flatten(1).any(1)[:, None, None]
    loss = F.cross_entropy(bounded(logits).flatten(0, 2), target.flatten(), reduction="none")
    # A weighted mean over the queries of all processes: gradients are averaged over them afterwards.
    return layers * (loss * weight.flatten()).sum() * world() / total(weight.sum()).clamp(min=1e-6)


def compare_masks(mask: Tensor, lattice: Lattice, inside: Tensor, valid: Tensor, config: SetLossConfig) -> Tensor:
    """Compute the loss of masks at the labels' resolution: w_focal · focal + w_dice · dice over the valid pixels.

    Args:
        mask: (P, S, h, w) mask logits of P regions in S layers.
        lattice: where the cells of the masks lie.
        inside: (P, H, W) bool, the regions.
        valid: (P, H, W) bool.
        config: weights.

    Returns:
        (P, S).
    """
    x = resample(bounded(mask), lattice, PIXELS, inside.shape[-2:]).flatten(2)
    target, valid = inside.flatten(1)[:, None], valid.flatten(1)[:, None]
    focal, dice = focal_and_dice(x, (target & valid).to(x.dtype), (~target & valid).to(x.dtype))
    return config.focal_weight * focal + config.dice_weight * dice


class _InPieces(torch.autograd.Function):
    """`compare_masks` of many regions, a few at a time, so that nothing of the labels' resolution outlives its piece.

    The gradient is computed along with the value: every mask has a loss of its own, so that all that a backward pass
    needs is its derivative at stride 4, a sixteenth of the pixels, and nothing has to be computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's
        mask: Tensor,
        lattice: Lattice,
        truth: Regions,
        image: Tensor,
        region: Tensor,
        config: SetLossConfig,
    ) -> Tensor:
        few = max(1, PIECE // (mask.shape[1] * truth.index[0].numel()))
        values: list[Tensor] = []
        slopes: list[Tensor] = []
        for part, b, r in zip(*(torch.split(x, few) for x in (mask, image, region)), strict=True):
            # A graph of this piece alone, which is gone with it.
            leaf = part.detach().requires_grad_(ctx.needs_input_grad[0])
            with torch.enable_grad():
                value = compare_masks(leaf, lattice, truth.index[b] == r[:, None, None], truth.valid[b], config)
                slopes += torch.autograd.grad(value.sum(), leaf) if leaf.requires_grad else []
            values.append(value.detach())
        if slopes:
            ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's
        (slope,) = ctx.saved_tensors
        return slope * gradients[0][..., None, None], None, None, None, None, None


def mask_loss(seen: Prediction, match: Match, config: SetLossConfig) -> Tensor:
    """Compute focal and dice loss of matched masks at the labels' resolution, over the valid pixels.

    Args:
        seen: of the student, S layers.
        match: of the truth's regions, at the labels' resolution.
        config: weights.

    Returns:
        Scalar: Σ over masks and layers / the number of regions (average over processes).
    """
    truth, query, image, region = match.regions, match.query, match.image, match.region  # P regions
    index = query.clamp(min=0)[..., None].expand(-1, -1, -1, seen.embedding.shape[-1])
    # Masks of matched queries only: the others need no gradient.
    mask = torch.einsum("bsrd,bdhw->brshw", seen.embedding.gather(2, index), seen.features)[image, region]
    if not len(image):
        return mask.sum()  # of nothing
    loss: Tensor = _InPieces.apply(mask, seen.lattice, truth, image, region, config)
    taken = query[image, :, region] >= 0
    return (loss * taken).sum() / (total(truth.present.sum()) / world()).clamp(min=1)


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
    return matched_loss(seen, Matching(truth_costs(seen, label, config)).solve(0), config)


@in_float32
def truth_costs(seen: Prediction, label: Tensor, config: SetLossConfig) -> tuple[Regions, Tensor]:
    """Make the regions of the truth, and the costs (B, S, Q, R) of giving them to queries; arguments as `set_loss`."""
    truth = label_regions(label, seen.logits.shape[-1] - 1, config.ignored)
    small = truth.shrink(seen.lattice, seen.features.shape[-2:])
    return truth, layer_costs(seen, small, config, list(range(seen.logits.shape[1])))


@in_float32
def matched_loss(seen: Prediction, match: Match, config: SetLossConfig) -> Tensor:
    """Compute `set_loss` of the truth's regions, whose queries are known."""
    return config.class_weight * class_loss(seen.logits, match, config) + mask_loss(seen, match, config)
