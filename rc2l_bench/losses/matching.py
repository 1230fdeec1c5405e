"""Hungarian matching of regions to queries, with MaskFormer's costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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


def layer_costs(seen: Prediction, regions: Regions, weights: SetLossConfig, layers: list[int]) -> Tensor:
    """Compute `matching_cost` of regions, on the grid of the masks, in some decoder layers: (B, layers, Q, R)."""
    with torch.no_grad():
        return torch.stack([matching_cost(seen.logits[:, s], seen.mask(s), regions, weights) for s in layers], 1)


def assign(cost: NDArray[Any], present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Find the cheapest one-to-one assignment of regions to queries, image by image, layer by layer.

    Args:
        cost: (B, S, Q, R) float, finite.
        present: (B, R) bool.

    Returns:
        (B, S, R) int64, the query of every region; -1 for padding, and for regions that are left over when there are
        more of them than queries.
    """
    query = np.full((*cost.shape[:2], cost.shape[3]), -1, dtype=np.int64)
    for image, layer in product(*map(range, cost.shape[:2])):
        columns = present[image].nonzero()[0]
        rows, taken = linear_sum_assignment(cost[image, layer][:, columns])
        query[image, layer, columns[taken]] = rows
    return query


class Fetch:
    """A tensor on its way to the host, while the device goes on with what it is given next."""

    def __init__(self, tensor: Tensor) -> None:
        # Into pinned memory: torch sees to that.
        self._copy = tensor.to("cpu", non_blocking=tensor.is_cuda)
        self._arrival = torch.cuda.Event() if tensor.is_cuda else None  # type: ignore[no-untyped-call]
        if self._arrival:
            self._arrival.record()

    def wait(self) -> Tensor:
        """Wait until it is there; a step may do this once."""
        if self._arrival:
            self._arrival.synchronize()
        return self._copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Regions, the queries that they are given to, and what the host knows of them.

    Attributes:
        regions: R of every image, as many as the image with the most of them has, and at least 1.
        query: (B, S, R) int64, σ of every layer; -1 for padding and for regions that are left over.
        image: (P,) int64; the images of all P regions that are present.
        region: (P,) int64; which region of its image each is.
        classes: the most classes that the regions of an image are of, at least 1.
    """

    regions: Regions
    query: Tensor
    image: Tensor
    region: Tensor
    classes: int


class Matching:
    """Regions of some batches and their costs, which travel to the host together: it waits for the device once.

    What needs no match is to be given to the device before the first batch is solved, and what needs the match of one
    batch before the next is solved: then the device has work while the host looks for the cheapest assignment.
    """

    def __init__(self, *batches: tuple[Regions, Tensor]) -> None:
        """Let the costs begin their way.

        Args:
            batches: regions, with any number of them for padding, and their costs (B, S, Q, R) float, finite.
        """
        self.regions = [regions for regions, _ in batches]
        self.shapes = [cost.shape for _, cost in batches]
        # Which regions are present, and of which class, goes along as numbers: one tensor is fetched, not three.
        labels = [regions.label.masked_fill(~regions.present, -1).to(cost.dtype) for regions, cost in batches]
        parts = [part.flatten() for label, (_, cost) in zip(labels, batches, strict=True) for part in (label, cost)]
        self._sizes = [part.numel() for part in parts]
        self._fetch = Fetch(torch.cat(parts))

    @cached_property
    def _arrived(self) -> list[NDArray[Any]]:
        """Labels, then costs, of every batch, flat."""
        return [part.numpy() for part in torch.split(self._fetch.wait(), self._sizes)]

    def solve(self, which: int) -> Match:
        """Match the regions of one of the batches, numbered as they were given (Hungarian algorithm)."""
        regions, shape = self.regions[which], self.shapes[which]
        label = self._arrived[2 * which].reshape(shape[0], shape[3])
        cost = self._arrived[2 * which + 1].reshape(shape)
        present = label >= 0
        most = max(1, present.sum(1).max())
        query, places = assign(cost[..., :most], present[:, :most]), present.nonzero()
        parts = [query.ravel(), *places]
        sent = send(torch.from_numpy(np.concatenate(parts)), regions.label.device)
        found, image, region = torch.split(sent, [len(part) for part in parts])
        classes = max(1, *(len(np.unique(row[row >= 0])) for row in label))
        return Match(
            regions=regions.first(most), query=found.view(query.shape), image=image, region=region, classes=classes
        )


def match_regions(seen: Prediction, regions: Regions, weights: SetLossConfig, layers: list[int]) -> Match:
    """Match regions, on the grid of the masks, to the queries of some decoder layers."""
    return Matching((regions, layer_costs(seen, regions, weights, layers))).solve(0)
