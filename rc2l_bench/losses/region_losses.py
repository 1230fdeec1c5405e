"""The four losses of RC²L on unlabelled images (equations 5 to 10 of the paper) as pure functions.

The letters, per image: p_q and m_q = σ(x_q) are the class distribution and the mask of student query q, x_q its logits;
F_s is the student's map of features; (c_i, M_i), i = 1..N_t, are the teacher's regions and V the pixels that take part;
σ(i) is the query that region i is matched to and ID = {σ(1), …, σ(N_t)}. Outside of V every mask is 0.

Every function returns the term of each region, (B, R), which is 0 for regions without a query; `add_up` makes a number
of them. No term looks beyond its own image, so batches may be spread over processes as one likes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rc2l_bench.losses.mask_loss import focal_and_dice, softplus
from rc2l_bench.losses.regions import BOUND, bounded, in_float32, of_query, one_hot, pool, wide

TINY = 1e-6
"""Least area, pixels, and least probability that a division or a logarithm sees."""

Overlap = Literal["dice", "union"]
Union = Literal["max", "any", "sum", "semantic"]
Reduction = Literal["sum", "mean"]


def add_up(value: Tensor, counted: Tensor, over_regions: Reduction) -> Tensor:
    """Sum (as printed) or average the terms of an image's regions, and average over all images.

    Images without regions count as 0, so that the number of images that is divided by does not depend on how a batch is
    spread over processes.

    Args:
        value: (B, R).
        counted: (B, R) bool or integer; which regions there are, or how often each counts.
        over_regions: what becomes of the regions of an image.

    Returns:
        Scalar.
    """
    total = (value * counted).sum(1)
    if over_regions == "mean":
        total = total / counted.sum(1).clamp(min=1)
    return total.mean()


def contrast(score: Tensor, matched: Tensor) -> Tensor:
    """Set every matched pair against the other matched queries of its image.

    −log [ exp(s_ii) / Σ_{j ∈ ID, j ≠ σ(i)} exp(s_ij) ]; the positive is not in the denominator, so that this can be
    negative. Where there is no other matched query the denominator is empty: the term is 0, with a zero gradient (our
    choice).

    Args:
        score: (B, R, R) of region i and the query of region j, divided by the temperature.
        matched: (B, R) bool.

    Returns:
        (B, R).
    """
    itself = torch.eye(score.shape[1], dtype=torch.bool, device=score.device)
    other = matched[:, None] & ~itself
    # Finite instead of −∞: the logarithm of an empty sum would make the gradient of what is left out not a number.
    rivals = score.masked_fill(~other, torch.finfo(score.dtype).min / 4).logsumexp(2)
    return (rivals - score.diagonal(dim1=1, dim2=2)).where(matched & other.any(2), 0.0)


@in_float32
def region_mask_contrast(mask: Tensor, target: Tensor, match: Tensor, temperature: float, overlap: Overlap) -> Tensor:
    """RMC, equation 5: the mask of a matched query is near its region, those of the other matched queries are far.

    −log [ exp(d(m_σ(i), M_i)/τ_m) / Σ_{j ∈ ID, j ≠ σ(i)} exp(d(m_j, M_i)/τ_m) ]

    Args:
        mask: (B, R, h, w) m_σ(i), 0 outside of V.
        target: (B, R, h, w) M, bool or float.
        match: (B, R) int64, σ; -1 for regions that do not count.
        temperature: τ_m.
        overlap: d is printed as 2·|intersection| over the area of the union; `dice` reads that area as |a| + |b|, which
            the factor 2 asks for (our choice), `union` as |a| + |b| − |intersection|.

    Returns:
        (B, R).
    """
    mask = wide(mask).flatten(2)
    target = target.flatten(2).to(mask.dtype)
    shared = torch.einsum("bip,bjp->bij", target, mask)
    area = target.sum(-1)[:, :, None] + mask.sum(-1)[:, None]
    if overlap == "union":
        area = area - shared
    return contrast(2 * shared / area.clamp(min=TINY) / temperature, match >= 0)


@in_float32
def region_feature_contrast(
    features: Tensor, mask: Tensor, target: Tensor, match: Tensor, temperature: float
) -> Tensor:
    """RFC, equations 6 to 8: what a matched query sees is like what its region sees, both in the student's features.

    r^s_σ(i) = GAP(m_σ(i) · F_s), r^t_i = GAP(M_i · F_s)
    −log [ exp(cos(r^s_σ(i), r^t_i)/τ_f) / Σ_{j ∈ ID, j ≠ σ(i)} exp(cos(r^s_j, r^t_i)/τ_f) ]

    Gradients reach F_s through both.

    Args:
        features: (B, D, h, w) F_s.
        mask: (B, R, h, w) m_σ(i), 0 outside of V.
        target: (B, R, h, w) M, bool or float.
        match: (B, R) int64, σ; -1 for regions that do not count.
        temperature: τ_f.

    Returns:
        (B, R).
    """
    # A cosine does not see what a vector is divided by: averages over the mask instead of the image lose no digits
    # where a mask is small.
    student, teacher = (pool(features, x).nan_to_num(0.0, 0.0, 0.0) for x in (mask, target))
    return contrast(torch.einsum("bid,bjd->bij", teacher, student) / temperature, match >= 0)


@in_float32
def region_class_consistency(logits: Tensor, label: Tensor, match: Tensor) -> Tensor:
    """RCC, equation 9: a matched query has the class of its region, −log p_σ(i)(c_i).

    Args:
        logits: (B, Q, K + 1) class logits of the student.
        label: (B, R) int64, c.
        match: (B, R) int64, σ; -1 for regions that do not count.

    Returns:
        (B, R).
    """
    log_prob = of_query(bounded(logits), match).log_softmax(-1)
    return -log_prob.gather(2, label[..., None])[..., 0].where(match >= 0, 0.0)


def members(logits: Tensor, label: Tensor, merged: Tensor, match: Tensor) -> Tensor:
    """Tell which queries are regions of a class: those whose most probable class it is, and the matched ones.

    Without the matched ones a class that the student misses would have an empty union, which learns nothing (our
    choice).

    Args:
        logits: (B, Q, K + 1) class logits.
        label: (B, R) int64, classes of the teacher's regions.
        merged: (B, C) int64, the classes to ask for.
        match: (B, R) int64, σ; -1 for regions that do not count.

    Returns:
        (B, C, Q) bool.
    """
    said = logits.argmax(-1)[:, None] == merged[..., None]
    matched = one_hot(match, logits.shape[1])  # of -1 none is marked
    same = merged[:, :, None] == label[:, None]  # (B, C, R)
    return said | (same[..., None] & matched[:, None]).any(2)


@in_float32
def unite(mask: Tensor, logits: Tensor, member: Tensor, classes: Tensor, how: Union) -> Tensor:
    """Merge the student's regions of a class into one: Union({m_q}, c) of equation 10, which the paper leaves open.

    max: the largest m_q of the members; any: 1 − Π (1 − m_q), some member has the pixel; sum: Σ m_q of the members;
    semantic: Σ_q p_q(c) m_q over all queries, which is what MaskFormer's inference scores. Sums are kept 1e-6 away from
    0 and 1.

    Args:
        mask: (B, Q, h, w) mask logits x.
        logits: (B, Q, K + 1) finite class logits.
        member: (B, C, Q) bool; which queries are of a class.
        classes: (B, C) int64.
        how: one of the four.

    Returns:
        (B, C, h, w) finite logits of the union: its sigmoid is the mask.
    """
    if how == "max":
        # One class at a time: what a maximum keeps for the backward pass are its places, not its operands.
        rows = [mask.masked_fill(~one[..., None, None], -BOUND).max(1).values for one in member.unbind(1)]
        return bounded(torch.stack(rows, 1))
    mask = bounded(mask)
    if how == "any":
        none = torch.einsum("bcq,bqhw->bchw", member.to(mask.dtype), softplus(mask))  # −log Π (1 − m_q)
        return none + (-torch.expm1(-none)).clamp(min=TINY).log()
    share = member.to(mask.dtype)
    if how == "semantic":
        share = logits.softmax(-1).gather(2, classes[:, None].expand(-1, logits.shape[1], -1)).transpose(1, 2)
    return torch.einsum("bcq,bqhw->bchw", share, mask.sigmoid()).clamp(TINY, 1 - TINY).logit()


@in_float32
def mask_consistency(mask: Tensor, target: Tensor, valid: Tensor, focal_weight: float, dice_weight: float) -> Tensor:
    """SMC, equation 10: masks of the student agree with masks of the teacher.

    L_mask(Union({m_q}, c_i), M_i), L_mask = w_focal · focal + w_dice · dice as in MaskFormer, over V

    Args:
        mask: (B, R, h, w) finite logits: of unions, see `unite`, for SMC; of the matched queries for the plain
            consistency of masks that the paper's ablation starts from.
        target: (B, R, h, w) bool; M, of a class or of a region.
        valid: (B, h, w) bool, V.
        focal_weight: w_focal.
        dice_weight: w_dice.

    Returns:
        (B, R).
    """
    valid = valid[:, None]
    inside, outside = ((x & valid).flatten(2).to(mask.dtype) for x in (target, ~target))
    focal, dice = focal_and_dice(mask.flatten(2), inside, outside)
    return focal_weight * focal + dice_weight * dice
