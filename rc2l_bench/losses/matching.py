"""Hungarian matching of regions to queries, with MaskFormer's costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from rc2l_bench.config import Model, NonNegative
from rc2l_bench.data.geometry import send
from rc2l_bench.losses.mask_loss import ALPHA, GAMMA, SMOOTH, softplus
from rc2l_bench.losses.regions import Regions, bounded, in_float32
from rc2l_bench.nets.region_net import Prediction

CHUNK = 16
"""Queries whose costs are computed at a time; bounds the memory of matching."""


class SetLossConfig(Model):
    """MaskFormer's set loss. The first three weights also weigh the costs of matching."""

    class_weight: NonNegative
    """Of the cross-entropy of classes (1 in MaskFormer)."""
    focal_weight: NonNegative
    """Of the sigmoid focal loss of matched masks (20 in MaskFormer)."""
    dice_weight: NonNegative
    """Of the dice loss of matched masks (1 in MaskFormer)."""
    no_object: NonNegative
    """Weight of an unmatched query in the cross-entropy, a matched one has 1 (0.1 in MaskFormer)."""
    ignored: Literal["excluded", "background"]
    """Pixels without a label take part in no mask term, or count as outside of every mask (MaskFormer's code)."""


def _cost(logits: Tensor, mask: Tensor, valid: Tensor, target: Tensor, label: Tensor, weights: SetLossConfig) -> Tensor:
    """Compute `matching_cost` for some of the queries."""
    x = bounded(mask).flatten(2)
    inside, loss = x.sigmoid(), softplus(x)
    as_outside = (1 - ALPHA) * inside**GAMMA * loss * valid
    as_inside = ALPHA * (1 - inside) ** GAMMA * (loss - x) * valid
    focal = torch.einsum("bqp,brp->bqr", as_inside - as_outside, target) + as_outside.sum(-1, keepdim=True)
    inside = inside * valid
    overlap = torch.einsum("bqp,brp->bqr", inside, target)
    area = inside.sum(-1, keepdim=True) + target.sum(-1)[:, None]
    wanted = label[:, None].expand(-1, logits.shape[1], -1)
    return (
        -weights.class_weight * logits.softmax(-1).gather(2, wanted)
        + weights.focal_weight * focal / valid.sum(-1, keepdim=True).clamp(min=1)
        + weights.dice_weight * (1 - (2 * overlap + SMOOTH) / (area + SMOOTH))
    )


@torch.no_grad()
@in_float32
def matching_cost(logits: Tensor, mask: Tensor, regions: Regions, weights: SetLossConfig) -> Tensor:
    """Compute MaskFormer's cost of giving region j to query i, over the valid pixels V.

    −w_class · softmax(c_i)_{y_j} + w_focal · mean_x focal(p_i, M_j) + w_dice · (1 − dice(σ(p_i), M_j))

    Args:
        logits: (B, Q, K + 1) class logits.
        mask: (B, Q, h, w) mask logits.
        regions: R regions on the grid of the masks.
        weights: of the three terms.

    Returns:
        (B, Q, R) at least float32, finite for any logits.
    """
    logits = bounded(logits)
    valid, target = (x.to(logits.dtype) for x in (regions.valid.flatten(1)[:, None], regions.mask().flatten(2)))
    parts = zip(torch.split(logits, CHUNK, 1), torch.split(mask, CHUNK, 1), strict=True)
    return torch.cat([_cost(c, p, valid, target, regions.label, weights) for c, p in parts], 1)


def assign(cost: Tensor, present: Tensor) -> Tensor:
    """Find the cheapest one-to-one assignment of regions to queries, image by image, layer by layer.

    Args:
        cost: (B, S, Q, R) float, finite.
        present: (B, R) bool.

    Returns:
        (B, S, R) int64, the query of every region; -1 for padding, and for regions that are left over when there are
        more of them than queries.
    """
    return assign_all([cost], [present])[0]


def assign_all(costs: Sequence[Tensor], presents: Sequence[Tensor]) -> list[Tensor]:
    """Find several assignments, see `assign`: the host waits for the device once, for the costs of all of them."""
    # Absent regions are marked in the costs themselves, so that nothing else is fetched.
    marked = [
        cost.masked_fill(~present[:, None, None], torch.inf) for cost, present in zip(costs, presents, strict=True)
    ]
    fetched = torch.split(torch.cat([cost.flatten() for cost in marked]).cpu(), [cost.numel() for cost in marked])
    found = [_solve(cost.view(like.shape).numpy()) for cost, like in zip(fetched, marked, strict=True)]
    sent = send(torch.from_numpy(np.concatenate([query.ravel() for query in found])), costs[0].device)
    return [
        part.view(query.shape) for part, query in zip(torch.split(sent, [q.size for q in found]), found, strict=True)
    ]


def _solve(cost: NDArray[Any]) -> NDArray[np.int64]:
    """Solve every image and layer of (B, S, Q, R), where an infinite cost marks a region that is absent."""
    query = np.full((*cost.shape[:2], cost.shape[3]), -1, dtype=np.int64)
    for pair in product(*map(range, cost.shape[:2])):
        columns = np.isfinite(cost[pair][0]).nonzero()[0]
        rows, taken = linear_sum_assignment(cost[pair][:, columns])
        query[pair][columns[taken]] = rows
    return query


def layer_costs(seen: Prediction, regions: Regions, weights: SetLossConfig, layers: list[int]) -> Tensor:
    """Compute `matching_cost` of regions, on the grid of the masks, in some decoder layers: (B, layers, Q, R)."""
    with torch.no_grad():
        return torch.stack([matching_cost(seen.logits[:, s], seen.mask(s), regions, weights) for s in layers], 1)


def match_regions(seen: Prediction, regions: Regions, weights: SetLossConfig, layers: list[int]) -> Tensor:
    """Match regions, on the grid of the masks, to the queries of some decoder layers (Hungarian algorithm).

    Returns:
        (B, layers, R) int64, see `assign`.
    """
    return assign(layer_costs(seen, regions, weights, layers), regions.present)
