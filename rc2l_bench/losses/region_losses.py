"""Losses on sets of regions: MaskFormer's set loss, and the four losses of RC²L as pure functions.

The letters of the four losses, per image: p_i and c_i are the student's mask and class logits, m_i = σ(p_i) restricted
to the valid pixels V; (y_j, M_j), j = 1..N_t, are the teacher's regions and σ(j) the query matched to region j. A mean
over regions is a mean over the matched regions of an image, then over the images that have any; 0 if none has.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor

from rc2l_bench.losses.matching import ALPHA, GAMMA, SMOOTH, SetLossConfig, match_regions, softplus
from rc2l_bench.losses.regions import Regions, bounded, in_float32, label_regions
from rc2l_bench.nets.lattice import PIXELS, resample
from rc2l_bench.nets.region_net import Prediction


def unmatched(match: Tensor, queries: int) -> Tensor:
    """Which queries no region was given to.

    Args:
        match: (..., R) int64, the query of every region or -1.
        queries: Q.

    Returns:
        (..., Q) bool.
    """
    free = torch.ones(*match.shape[:-1], queries + 1, dtype=torch.bool, device=match.device)
    return free.scatter(-1, match.where(match >= 0, queries), False)[..., :-1]


def of_query(x: Tensor, match: Tensor) -> Tensor:
    """Picks from values of queries (B, Q, ...) those of the query of every region, (B, R, ...); any for -1."""
    index = match.clamp(min=0)[(...,) + (None,) * (x.ndim - 2)].expand(-1, -1, *x.shape[2:])
    return x.gather(1, index)


def mean_over_regions(value: Tensor, matched: Tensor) -> Tensor:
    """Mean over the matched regions of every image, then over the images that have any; (B, R) -> scalar."""
    count = matched.sum(1)
    per_image = (value * matched).sum(1) / count.clamp(min=1)
    return per_image.sum() / (count > 0).sum().clamp(min=1)


@in_float32
def region_mask_contrast(mask: Tensor, target: Tensor, match: Tensor, temperature: float) -> Tensor:
    """RMC: the matched student mask is the positive, the image's other student masks are the negatives.

    mean_j −log [ exp(d(m_σ(j), M_j)/τ) / Σ_{i=1..N} exp(d(m_i, M_j)/τ) ],  d(a, b) = (2⟨a,b⟩ + ε) / (Σa + Σb + ε)

    Args:
        mask: (B, Q, h, w) m, mask probabilities, 0 outside of V.
        target: (B, R, h, w) M, bool or float.
        match: (B, R) int64, σ; -1 for regions that do not count.
        temperature: τ.

    Returns:
        Scalar float32.
    """
    mask, target = mask.float().flatten(2), target.float().flatten(2)
    overlap = torch.einsum("brp,bqp->brq", target, mask)
    area = target.sum(-1)[:, :, None] + mask.sum(-1)[:, None]
    score = ((2 * overlap + SMOOTH) / (area + SMOOTH) / temperature).log_softmax(-1)
    positive = score.gather(2, match.clamp(min=0)[..., None])[..., 0]
    return mean_over_regions(-positive, match >= 0)


@in_float32
def region_feature_contrast(
    student: Tensor,
    teacher: Tensor,
    label: Tensor,
    present: Tensor,
    match: Tensor,
    temperature: float,
    scope: Literal["image", "batch"],
    positives: Literal["matched", "class"],
) -> Tensor:
    """RFC: the feature of a matched student mask is near its teacher region, far from regions of other classes.

    mean_j mean_{n ∈ P(j)} −log [ exp(⟨s_j, t_n⟩/τ) / (exp(⟨s_j, t_n⟩/τ) + Σ_{n': y_n' ≠ y_j} exp(⟨s_j, t_n'⟩/τ)) ],
    s_j = MAP(F_s, m_σ(j)), t_n = MAP(F_t, M_n)

    Args:
        student: (B, R, D) s, of length 1.
        teacher: (B, R, D) t, of length 1.
        label: (B, R) int64, y.
        present: (B, R) bool; which teacher regions there are.
        match: (B, R) int64, σ; -1 for regions that do not count.
        temperature: τ.
        scope: whether n runs over the teacher regions of the image or of the batch of this process.
        positives: P(j) is {j}, or every teacher region in scope of class y_j.

    Returns:
        Scalar float32.
    """
    shape = (1, -1) if scope == "batch" else label.shape
    label, present = label.reshape(shape), present.reshape(shape)
    student, teacher = (x.float().reshape(*label.shape, -1) for x in (student, teacher))
    similarity = torch.einsum("gjd,gnd->gjn", student, teacher) / temperature
    same = label[:, :, None] == label[:, None]
    negatives = similarity.masked_fill(same | ~present[:, None], -1e30).logsumexp(-1, keepdim=True)
    loss = F.softplus(negatives - similarity)
    if positives == "matched":
        return mean_over_regions(loss.diagonal(dim1=1, dim2=2).reshape(match.shape), match >= 0)
    positive = same & present[:, None]
    loss = (loss * positive).sum(-1) / positive.sum(-1).clamp(min=1)
    return mean_over_regions(loss.reshape(match.shape), match >= 0)


@in_float32
def region_class_consistency(logits: Tensor, target: Tensor, match: Tensor, no_object: float) -> Tensor:
    """RCC: a matched query has the teacher's class distribution q_j of its region, the others have no object.

    [ Σ_j −⟨q_j, log softmax(c_σ(j))⟩ + w Σ_{i unmatched} −log softmax(c_i)_{K+1} ] / [ N_t + w · (N − N_t) ]

    Args:
        logits: (B, Q, K + 1) c.
        target: (B, R, K) q, sums to 1.
        match: (B, R) int64, σ; -1 for regions that do not count.
        no_object: w, weight of an unmatched query.

    Returns:
        Scalar float32; mean over the images that have regions.
    """
    log_prob = bounded(logits).log_softmax(-1)
    matched, free = match >= 0, unmatched(match, logits.shape[1])
    agreement = -(target * of_query(log_prob, match)[..., :-1]).sum(-1)
    total = (agreement * matched).sum(1) - no_object * (log_prob[..., -1] * free).sum(1)
    weight = matched.sum(1) + no_object * free.sum(1)
    return mean_over_regions((total / weight.clamp(min=1))[:, None], matched.any(1, keepdim=True))


@in_float32
def semantic_mask_consistency(
    student: Tensor, teacher: Tensor, classes: Tensor, valid: Tensor, form: Literal["dice", "bce", "mse"]
) -> Tensor:
    """SMC: the union of the regions of a class agrees, over the classes that the teacher has a region of.

    mean_k 1 − d(S̄_s(k), S̄_t(k))  (`dice`), or the mean over V of the binary cross-entropy or of the squared difference

    Args:
        student: (B, K, h, w) S̄_s, in [0, 1].
        teacher: (B, K, h, w) S̄_t, in [0, 1].
        classes: (B, K) bool; classes of the teacher's regions.
        valid: (B, h, w) bool, V.
        form: how two maps are compared.

    Returns:
        Scalar float32.
    """
    keep = valid.flatten(1)[:, None].float()
    student, teacher = student.float().flatten(2) * keep, teacher.float().flatten(2) * keep
    if form == "dice":
        overlap, area = (student * teacher).sum(-1), student.sum(-1) + teacher.sum(-1)
        return mean_over_regions(1 - (2 * overlap + SMOOTH) / (area + SMOOTH), classes)
    if form == "bce":
        pixels = F.binary_cross_entropy(student.clamp(0, 1), teacher.clamp(0, 1), reduction="none")
    else:
        pixels = (student - teacher) ** 2
    return mean_over_regions((pixels * keep).sum(-1) / keep.sum(-1).clamp(min=1), classes)


def mean_over_processes(count: Tensor) -> Tensor:
    """The average of a number over all processes, at least 1."""
    count = count.float()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(count)
        count = count / torch.distributed.get_world_size()
    return count.clamp(min=1)


def class_loss(logits: Tensor, truth: Regions, match: Tensor, config: SetLossConfig) -> Tensor:
    """Cross-entropy of every query of every layer, "no object" weighted down; summed over layers.

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
    return layers * (loss * weight.flatten()).sum() / weight.sum().clamp(min=1e-6)


def mask_losses(seen: Prediction, truth: Regions, match: Tensor) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of matched masks at the labels' resolution, over the valid pixels; summed over layers.

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
    x = resample(bounded(mask), seen.lattice, PIXELS, truth.index.shape[-2:]).flatten(2)  # (P, S, H·W)
    target = (truth.index[image] == region[:, None, None]).flatten(1)[:, None]
    valid = truth.valid[image].flatten(1)[:, None]
    inside, outside = (target & valid).float(), (~target & valid).float()
    area, pixels = inside.sum(2), valid.sum(2).clamp(min=1)
    x = x * (outside - inside)  # now positive where it is wrong
    wrong = x.sigmoid()
    focal = (wrong**GAMMA * softplus(x) * (ALPHA * inside + (1 - ALPHA) * outside)).sum(2) / pixels
    missed, extra = (wrong * inside).sum(2), (wrong * outside).sum(2)
    dice = 1 - (2 * (area - missed) + SMOOTH) / (2 * area - missed + extra + SMOOTH)
    taken = match[image, :, region] >= 0
    count = mean_over_processes(truth.present.sum())
    return (focal * taken).sum() / count, (dice * taken).sum() / count


@in_float32
def set_loss(seen: Prediction, label: Tensor, config: SetLossConfig) -> Tensor:
    """MaskFormer's supervised loss: every decoder layer is matched and supervised for itself.

    Σ_layers [ w_class · CE + w_focal · focal + w_dice · dice ]

    Args:
        seen: of the student, B images.
        label: (B, H, W) int64, 0..K-1 or 255.
        config: weights, and what becomes of ignored pixels.

    Returns:
        Scalar float32, finite for any logits.
    """
    truth = label_regions(label, seen.logits.shape[-1] - 1, config.ignored)
    small = truth.shrink(seen.lattice, seen.features.shape[-2:])
    match = match_regions(seen, small, config, list(range(seen.logits.shape[1])))
    focal, dice = mask_losses(seen, truth, match)
    return (
        config.class_weight * class_loss(seen.logits, truth, match, config)
        + config.focal_weight * focal
        + config.dice_weight * dice
    )
