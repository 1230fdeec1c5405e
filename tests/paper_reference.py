"""Equations 5 to 10 of RC²L, one region at a time, in float64: written from the paper, not from the code.

An image is a dict: `logits` (N, K + 1) and `mask` (N, h, w), the student's class and mask logits; `features` (D, h, w);
`segments`, a list of (class, mask, query), where the query is None for segments that are left over; `valid` (h, w).
"""

from __future__ import annotations

import math

import numpy as np
from region_reference import sigmoid, softmax


def dice_of(a, b):
    return 2 * (a * b).sum() / (a.sum() + b.sum())


def twice_iou_of(a, b):
    return 2 * (a * b).sum() / (a.sum() + b.sum() - (a * b).sum())


def m(image, query):
    """The mask of a query, which has nothing outside of the pixels that take part."""
    return sigmoid(image["mask"][query]) * image["valid"]


def matched(image):
    return [(c, target, query) for c, target, query in image["segments"] if query is not None]


def minus_log_share(positive, others):
    """−log of exp(positive) / Σ exp(others); 0 without others."""
    return math.log(sum(math.exp(x) for x in others)) - positive if others else 0.0


def rmc(image, temperature, d=dice_of):
    """Equation 5."""
    pairs = matched(image)
    terms = []
    for _, target, query in pairs:
        others = [d(m(image, other), target) / temperature for _, _, other in pairs if other != query]
        terms.append(minus_log_share(d(m(image, query), target) / temperature, others))
    return terms


def pooled(image, mask):
    """Global average pooling of mask times features."""
    total = np.zeros(len(image["features"]))
    for y, x in np.ndindex(*mask.shape):
        total += mask[y, x] * image["features"][:, y, x]
    return total / mask.size


def cosine(a, b):
    return (a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))


def rfc(image, temperature):
    """Equations 6 to 8: both pool the student's features."""
    pairs = matched(image)
    student = {query: pooled(image, m(image, query)) for _, _, query in pairs}
    terms = []
    for _, target, query in pairs:
        region = pooled(image, target)
        others = [cosine(student[other], region) / temperature for other in student if other != query]
        terms.append(minus_log_share(cosine(student[query], region) / temperature, others))
    return terms


def rcc(image):
    """Equation 9."""
    return [-math.log(softmax(image["logits"][query])[c]) for c, _, query in matched(image)]


def mask_loss(probability, target, valid, focal_weight, dice_weight):
    """MaskFormer's, over the valid pixels."""
    p, t = probability[valid], target[valid].astype(float)
    focal = -np.where(t, 0.25 * (1 - p) ** 2 * np.log(p), 0.75 * p**2 * np.log(1 - p))
    dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
    return focal_weight * focal.mean() + dice_weight * dice


def union(image, c, how):
    """The student's regions of a class merged into one: those that it says are of the class, and the matched ones."""
    said = {q for q, row in enumerate(image["logits"]) if int(np.argmax(row)) == c}
    said |= {q for label, _, q in matched(image) if label == c}
    masks = [sigmoid(image["mask"][q]) for q in sorted(said)]
    if how == "max":
        return np.max(masks, axis=0)
    if how == "any":
        return 1 - np.prod([1 - mask for mask in masks], axis=0)
    if how == "semantic":
        masks = [softmax(row)[c] * sigmoid(image["mask"][q]) for q, row in enumerate(image["logits"])]
    return np.clip(np.sum(masks, axis=0), 1e-6, 1 - 1e-6)


def smc(image, how, focal_weight, dice_weight):
    """Equation 10; the target is the semantic mask of the class, so that segments of one class share it."""
    terms = []
    for c, _, _ in image["segments"]:
        target = np.any([mask for label, mask, _ in image["segments"] if label == c], axis=0)
        terms.append(mask_loss(union(image, c, how), target, image["valid"], focal_weight, dice_weight))
    return terms


def mask_consistency(image, focal_weight, dice_weight):
    """What the ablation starts from."""
    return [
        mask_loss(sigmoid(image["mask"][query]), target, image["valid"], focal_weight, dice_weight)
        for _, target, query in matched(image)
    ]


def batch_mean(per_image, over_regions="sum"):
    """Sum or mean over the regions of an image, mean over all images."""
    numbers = [sum(terms) / (max(1, len(terms)) if over_regions == "mean" else 1) for terms in per_image]
    return sum(numbers) / len(numbers)
