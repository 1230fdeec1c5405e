"""Pixel losses: pure functions on logits and labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rc2l_bench.types import IGNORE


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels.

    Args:
        logits: (B, K, H, W) float.
        label: (B, H, W) int64, 0..K-1 or 255.

    Returns:
        Scalar float32; 0 with a zero gradient where every pixel is ignored.
    """
    total = F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="sum")
    return total / (label != IGNORE).sum().clamp(min=1)


def ohem_cross_entropy(logits: Tensor, label: Tensor, threshold: float = 0.7, min_kept: int = 100_000) -> Tensor:
    """Cross-entropy over hard pixels only (online hard example mining).

    A pixel is kept when the predicted probability of its true class is at most the threshold; when fewer than
    `min_kept` pixels are, the threshold is raised until that many are kept.

    Args:
        logits: (B, K, H, W) float.
        label: (B, H, W) int64, 0..K-1 or 255.
        threshold: probability; 0.7 in CPS, U2PL, UniMatch.
        min_kept: pixels of the batch; 100,000 in U2PL, 50,000 per process in CPS, 200,000 in UniMatch.

    Returns:
        Scalar float32, the mean over the kept pixels; 0 where every pixel is ignored.
    """
    pixels = F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="none").flatten()
    valid = (label != IGNORE).flatten()
    probability = torch.exp(-pixels.detach()).masked_fill(~valid, torch.inf)
    kth = probability.kthvalue(min(min_kept, len(probability))).values
    kept = valid & (probability <= kth.clamp(min=threshold))
    return (pixels * kept).sum() / kept.sum().clamp(min=1)


SUPERVISED = {"ce": cross_entropy, "ohem": ohem_cross_entropy}
"""The supervised pixel losses that a protocol can name."""
