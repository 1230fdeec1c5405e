"""Scores from confusion counts. Needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def areas_of(confusion: NDArray[np.integer]) -> Floats:
    """What the mIoU needs of confusion matrices.

    Args:
        confusion: (..., K, K) counts, rows = truth, columns = prediction.

    Returns:
        (..., 2, K): intersection and union of every class, in pixels.
    """
    hit = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    union = confusion.sum(-1, dtype=np.float64) + confusion.sum(-2, dtype=np.float64) - hit
    return np.stack([hit, union], axis=-2)


def class_iou(areas: Floats) -> Floats:
    """IoU of every class: (..., 2, K) to (..., K); nan for a class with neither truth nor prediction."""
    hit, union = areas[..., 0, :], areas[..., 1, :]
    return np.divide(hit, union, out=np.full_like(hit, np.nan), where=union > 0)


def mean_iou(areas: Floats) -> Floats:
    """Mean IoU over the classes that have truth or prediction: (..., 2, K) to (...); nan if there is none."""
    hit, union = areas[..., 0, :], areas[..., 1, :]
    iou = np.divide(hit, union, out=np.zeros_like(hit), where=union > 0)
    present = (union > 0).sum(-1)
    return np.asarray(np.divide(iou.sum(-1), present, out=np.full(present.shape, np.nan), where=present > 0))


def pixel_accuracy(confusion: NDArray[np.integer]) -> float:
    """Share of the counted pixels of (K, K) counts whose class is right; NaN when there are none."""
    total = int(confusion.sum())
    return float(np.trace(confusion) / total) if total else float("nan")
