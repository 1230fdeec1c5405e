"""Slow, obvious forms of regions and of the set loss: loops over images, regions and queries, float64."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np


def softmax(x):
    x = np.exp(x - x.max())
    return x / x.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dice(a, b):
    return (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1)


def focal(logits, target):
    """Lin et al. 2017, alpha 0.25, gamma 2; per pixel."""
    out = np.zeros_like(logits)
    for place, x in np.ndenumerate(logits):
        p = sigmoid(x)
        out[place] = -0.25 * (1 - p) ** 2 * math.log(p) if target[place] else -0.75 * p**2 * math.log(1 - p)
    return out


def pool(features, mask):
    """One mask, one image: features (D, h, w), mask (h, w)."""
    total = np.zeros(len(features))
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            total += mask[y, x] * features[:, y, x]
    mean = total / mask.sum()
    return mean / np.linalg.norm(mean)


def semantic(logits, mask):
    """One image: class logits (Q, K + 1), mask probabilities (Q, h, w)."""
    out = np.zeros((logits.shape[1] - 1, *mask.shape[1:]))
    for i in range(len(logits)):
        for k in range(len(out)):
            out[k] += softmax(logits[i])[k] * mask[i]
    return out


def truth_masks(label):
    """One binary mask per class present; ignored pixels belong to none."""
    classes = [k for k in np.unique(label) if k != 255]
    return classes, [label == k for k in classes]


def costs(logits, mask, classes, masks, valid, weights=(1, 20, 1)):
    """Cost of giving truth j to query i; one image, masks on the grid of the prediction."""
    out = np.zeros((len(logits), len(classes)))
    for i in range(len(logits)):
        for j, k in enumerate(classes):
            x, t = mask[i][valid], masks[j][valid]
            out[i, j] = (
                -weights[0] * softmax(logits[i])[k]
                + weights[1] * (focal(x, t).mean() if len(x) else 0.0)
                + weights[2] * (1 - dice(sigmoid(x), t))
            )
    return out


def cheapest(cost):
    """Tries every assignment of truths to queries; gives the query of every truth."""
    queries, truths = cost.shape
    return min(permutations(range(queries), truths), key=lambda q: sum(cost[q[j], j] for j in range(truths)))


def nearest(x, size):
    """The pixels of a label map or mask (H, W) under the centres of cells at 0, s, 2s, …"""
    return x[:: x.shape[0] // size[0], :: x.shape[1] // size[1]]


def upsample(x, size):
    """One map (h, w) of cells at 0, s, 2s, …, a torch tensor, interpolated bilinearly at every pixel of a size."""
    out = x.double().numpy()
    for axis in (0, 1):
        stride = size[axis] // out.shape[axis]
        cells = stride * np.arange(out.shape[axis])
        out = np.apply_along_axis(lambda line, n, at: np.interp(np.arange(n), at, line), axis, out, size[axis], cells)
    return out


def set_loss(logits, mask, label, ignored):
    """MaskFormer's loss, written from its definition.

    Args:
        logits: (B, S, Q, K + 1) float64 array.
        mask: (B, S, Q, h, w) float64 tensor.
        label: (B, H, W) array with 255.
        ignored: "background" as released, or "excluded".
    """
    number = max(1, sum(len(truth_masks(image)[0]) for image in label))
    total = 0.0
    for s in range(logits.shape[1]):
        entropy = weight = 0.0
        for b, image in enumerate(label):
            known = image != 255 if ignored == "excluded" else np.ones_like(image, dtype=bool)
            classes, masks = truth_masks(image)
            size = tuple(mask.shape[-2:])
            small = [nearest(m, size) for m in masks]
            query = cheapest(costs(logits[b, s], mask[b, s].numpy(), classes, small, nearest(known, size)))
            for j, i in enumerate(query):
                x = upsample(mask[b, s, i], image.shape)[known]
                t = masks[j][known]
                total += 20 * focal(x, t).mean() / number + (1 - dice(sigmoid(x), t)) / number
            if not known.any():
                continue
            for i in range(logits.shape[2]):
                k, w = (classes[query.index(i)], 1.0) if i in query else (-1, 0.1)
                entropy -= w * math.log(softmax(logits[b, s, i])[k])
                weight += w
        total += entropy / weight if weight else 0.0
    return total
