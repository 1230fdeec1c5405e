"""Compute pixel losses and select pseudo-labels: pure functions on logits, labels and features.

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
    """Divide a sum over pixels by their number in all processes.

    Args:
        part: scalar, the sum over this process's pixels.
        count: scalar, the number of this process's pixels.

    Returns:
        Scalar; its mean over the processes is the mean over all pixels, and 0 where there are none.
    """
    return part * world() / total(count).clamp(min=1)


def cross_entropy(logits: Tensor, label: Tensor, over: Tensor | None = None) -> Tensor:
    """Compute the mean cross-entropy over the labelled pixels.

    Args:
        logits: (B, K, H, W) float.
        label: (B, H, W) int64, 0..K-1 or 255.
        over: (B, H, W) bool; the pixels that the mean is over, where unlabelled ones count as 0. FixMatch and UniMatch
            divide so, which makes the loss small while few pixels are confident. Default: the labelled pixels.

    Returns:
        Scalar float32; 0 with a zero gradient where every pixel is ignored.
    """
    # In float32, because a sum over pixels overflows float16. A sum, because torch's own mean is one process's, and NaN
    # where every pixel is ignored.
    part = F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="sum")
    return mean(part, (label != IGNORE if over is None else over).sum())


def ohem_cross_entropy(logits: Tensor, label: Tensor, threshold: float = 0.7, min_kept: int = 100_000) -> Tensor:
    """Compute the cross-entropy over hard pixels only (OHEM).

    A pixel is kept when the predicted probability of its true class is at most the threshold; when fewer than
    `min_kept` pixels are, the threshold is raised until that many are kept. After Shrivastava et al., CVPR 2016, in the
    form for pixels that CPS, U2PL and UniMatch share.

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
    # The loss of a pixel is −log of the probability that is wanted: no softmax over the classes is needed.
    probability = torch.exp(-pixels.detach()).masked_fill(~valid, torch.inf)
    # Pixels of all processes are ranked together, so that their number does not move the threshold. Ignored pixels have
    # infinity and come last: with too few valid pixels the threshold is infinite and all of these are kept.
    every = gather(probability).flatten()
    kth = every.kthvalue(min(min_kept, len(every))).values
    kept = valid & (probability <= kth.clamp(min=threshold))
    # A product, because indexing with a mask makes the host wait for the device.
    return mean((pixels * kept).sum(), kept.sum())


SUPERVISED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ce": cross_entropy, "ohem": ohem_cross_entropy}
"""The supervised pixel losses that a protocol can name."""


def pseudo_label(logits: Tensor, valid: Tensor, threshold: float = 0.0) -> Tensor:
    """Take the most probable class of every pixel that is confident enough.

    Args:
        logits: (B, K, H, W) float; no gradient flows.
        valid: (B, H, W) bool.
        threshold: least probability of the class; 0 = every valid pixel gets a label.

    Returns:
        (B, H, W) int64, 0..K-1, or 255 where a pixel is invalid or below the threshold.
    """
    logits = logits.detach().float()
    # Without a threshold the probability is not needed, and logits have the same maximum.
    best, label = (logits.softmax(1) if threshold > 0 else logits).max(1)  # argmax(1) takes six times as long on a CPU
    return label.masked_fill(~valid | (best < threshold) if threshold > 0 else ~valid, IGNORE)


def entropy(logits: Tensor) -> Tensor:
    """Compute the Shannon entropy of every pixel's class distribution.

    Args:
        logits: (B, K, H, W) float.

    Returns:
        (B, H, W) float32, nats, in 0..log K.
    """
    # From log-softmax: a probability that underflows to 0 gives 0 · a finite number, not 0 · −inf = NaN.
    log = logits.float().log_softmax(1)
    return -(log.exp() * log).sum(1)


def percentile(values: Tensor, valid: Tensor, share: float) -> Tensor:
    """Find the smallest value that at least a share of the valid values do not exceed (nearest rank).

    Args:
        values: (B, ...) float, finite.
        valid: (B, ...) bool.
        share: 0..1; 0 = the smallest value.

    Returns:
        Scalar like `values`; infinite where nothing is valid.
    """
    # Invalid values are infinite and rank last, where a share of the valid ones never reaches.
    every = gather(values.masked_fill(~valid, torch.inf)).flatten()
    count = total(valid.sum())
    return select_rank(every, count, share) if every.device.type == "cpu" else look_up_rank(every, count, share)


MARGIN = 1e-6
"""Keeps a product such as 0.8 * 10 from being rounded up to the next rank."""


def select_rank(values: Tensor, count: Tensor, share: float) -> Tensor:
    """Select the value (n,) -> () whose rank is a share of a count, without sorting; the host has to know the rank."""
    rank = math.ceil(share * int(count) - MARGIN)
    return values.kthvalue(max(rank, 1)).values


def look_up_rank(values: Tensor, count: Tensor, share: float) -> Tensor:
    """Find the value of `select_rank` by sorting: no host has to wait for a device."""
    rank = (share * count.double() - MARGIN).ceil().long().clamp(min=1)
    return values.sort().values.index_select(0, rank[None] - 1)[0]


def reweighted_cross_entropy(logits: Tensor, label: Tensor, valid: Tensor) -> Tensor:
    """Compute the mean cross-entropy over the labelled pixels, times the valid pixels per labelled one.

    U2PL (Wang et al., CVPR 2022), section 3.2: the fewer pixels are reliable, the more each of them counts.

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
    """Compute the squared distance of class distributions, summed over the classes, mean over the valid pixels.

    The sum over the classes is our choice: a mean, as in Mean Teacher, makes the loss smaller with every further class.

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
    """Compute InfoNCE of anchors that share one positive per class, and each have negatives of their own.

    −log( exp(⟨a, p⟩/τ) / (exp(⟨a, p⟩/τ) + Σ_n exp(⟨a, n⟩/τ)) ), mean over the anchors.

    Args:
        anchor: (K, A, D) float, unit length.
        positive: (K, D) float, unit length.
        negative: (K, A, N, D) float, unit length.
        temperature: τ > 0.

    Returns:
        (K,) float, one loss per class.
    """
    near = torch.einsum("kad,kd->ka", anchor, positive)
    far = torch.einsum("kad,kand->kan", anchor, negative)
    logits = torch.cat([near[..., None], far], 2) / temperature
    # In logarithms, because exp(1/τ) overflows float32 for τ below 0.012.
    return (logits.logsumexp(2) - logits[..., 0]).mean(1)
