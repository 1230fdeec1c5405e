"""Pixel losses and the selection of pseudo-labels: pure functions on logits, labels and features.

Means, percentiles and thresholds are taken over the images of all processes: see `processes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rc2l_bench.processes import gather, total, world
from rc2l_bench.types import IGNORE


def mean(part: Tensor, count: Tensor) -> Tensor:
    """A sum over pixels divided by their number in all processes.

    Args:
        part: scalar, the sum over this process's pixels.
        count: scalar, the number of this process's pixels.

    Returns:
        Scalar; its mean over the processes is the mean over all pixels, and 0 where there are none.
    """
    return part * world() / total(count).clamp(min=1)


def cross_entropy(logits: Tensor, label: Tensor, over: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the labelled pixels.

    Args:
        logits: (B, K, H, W) float.
        label: (B, H, W) int64, 0..K-1 or 255.
        over: (B, H, W) bool; the pixels that the mean is over, where unlabelled ones count as 0. FixMatch and UniMatch
            divide so, which makes the loss small while few pixels are confident. Default: the labelled pixels.

    Returns:
        Scalar float32; 0 with a zero gradient where every pixel is ignored.
    """
    part = F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="sum")
    return mean(part, (label != IGNORE if over is None else over).sum())


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
    pixels = F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="none")
    valid = label != IGNORE
    probability = torch.exp(-pixels.detach()).masked_fill(~valid, torch.inf)
    every = gather(probability).flatten()
    kth = every.kthvalue(min(min_kept, len(every))).values
    kept = valid & (probability <= kth.clamp(min=threshold))
    return mean((pixels * kept).sum(), kept.sum())


SUPERVISED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ce": cross_entropy, "ohem": ohem_cross_entropy}
"""The supervised pixel losses that a protocol can name."""


def pseudo_label(logits: Tensor, valid: Tensor, threshold: float = 0.0) -> Tensor:
    """The most probable class of every pixel that is confident enough.

    Args:
        logits: (B, K, H, W) float; no gradient flows.
        valid: (B, H, W) bool.
        threshold: least probability of the class; 0 = every valid pixel gets a label.

    Returns:
        (B, H, W) int64, 0..K-1, or 255 where a pixel is invalid or below the threshold.
    """
    logits = logits.detach().float()
    best, label = (logits.softmax(1) if threshold > 0 else logits).max(1)  # argmax(1) takes six times as long on a CPU
    return label.masked_fill(~valid | (best < threshold) if threshold > 0 else ~valid, IGNORE)


def entropy(logits: Tensor) -> Tensor:
    """Shannon entropy of the class distribution of every pixel, in nats: (B, K, H, W) -> (B, H, W) float32."""
    log = logits.float().log_softmax(1)
    return -(log.exp() * log).sum(1)


def percentile(values: Tensor, valid: Tensor, share: float) -> Tensor:
    """The smallest value that at least a share of the valid values do not exceed (nearest rank).

    Args:
        values: (B, ...) float, finite.
        valid: (B, ...) bool.
        share: 0..1; 0 = the smallest value.

    Returns:
        Scalar like `values`; infinite where nothing is valid.
    """
    every = gather(values.masked_fill(~valid, torch.inf)).flatten()
    # The margin keeps a product such as 0.8 * 10 from being rounded up to the next rank.
    rank = math.ceil(share * int(total(valid.sum())) - 1e-6)
    return every.kthvalue(max(rank, 1)).values


def reweighted_cross_entropy(logits: Tensor, label: Tensor, valid: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled pixels, times the valid pixels per labelled one (U2PL, section 3.2).

    Args:
        logits: (B, K, H, W) float.
        label: (B, H, W) int64, 0..K-1 or 255.
        valid: (B, H, W) bool; pixels that could have had a label.

    Returns:
        Scalar float32; 0 where no pixel is labelled.
    """
    factor = total(valid.sum()) / total((label != IGNORE).sum()).clamp(min=1)
    return factor * cross_entropy(logits, label)


def squared_error(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Squared distance of class distributions, summed over the classes, mean over the valid pixels.

    Args:
        logits: (B, K, H, W) float.
        target: (B, K, H, W) float, probabilities.
        valid: (B, H, W) bool.

    Returns:
        Scalar float32 in [0, 2]; 0 where no pixel is valid.
    """
    distance = (logits.float().softmax(1) - target).square().sum(1)
    return mean((distance * valid).sum(), valid.sum())


def contrast(anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """InfoNCE of anchors that share one positive per class, and each have negatives of their own.

    −log( exp(⟨a, p⟩/τ) / (exp(⟨a, p⟩/τ) + Σ_n exp(⟨a, n⟩/τ)) ), mean over the anchors.

    Args:
        anchor: (K, A, D) float, unit length.
        positive: (K, D) float, unit length.
        negative: (K, A, N, D) float, unit length.
        temperature: τ.

    Returns:
        (K,) float, one loss per class.
    """
    near = torch.einsum("kad,kd->ka", anchor, positive)
    far = torch.einsum("kad,kand->kan", anchor, negative)
    logits = torch.cat([near[..., None], far], 2) / temperature
    return (logits.logsumexp(2) - logits[..., 0]).mean(1)
