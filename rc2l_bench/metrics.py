"""Confusion counts and what follows from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray


def count_confusion(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Counts pairs of true and predicted classes, image by image.

    Args:
        prediction: (B, H, W) integer, 0..K-1.
        label: (B, H, W) uint8 or integer, 0..K-1; anything else is ignored.
        num_classes: K.

    Returns:
        (B, K, K) int64; rows are true classes, columns predicted ones.
    """
    cells = (num_classes + 1) * num_classes
    # Counting waits for memory: bytes are read faster than integers.
    kind = torch.uint8 if cells <= 256 else torch.int32
    total = torch.zeros((len(label), num_classes, num_classes), dtype=torch.int64, device=label.device)
    for row, guess, truth in zip(total, prediction, label, strict=True):
        pair = truth.clamp(max=num_classes).to(kind).mul_(num_classes).add_(guess.to(kind))
        row.copy_(pair.flatten().bincount(minlength=cells)[: num_classes**2].view_as(row))
    return total


def class_iou(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of every class.

    Args:
        confusion: (..., K, K) counts, summed over the images that are to count as one set.

    Returns:
        (..., K) in [0, 1]; NaN for a class that is neither in the truth nor predicted.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(-1) + confusion.sum(-2) - hits
    iou: NDArray[np.float64] = np.divide(hits, union, out=np.full_like(union, np.nan), where=union > 0)
    return iou


def mean_iou(confusion: NDArray[Any]) -> float:
    """Mean IoU over the classes that occur in truth or prediction; absent classes are skipped.

    Args:
        confusion: (K, K) counts over the whole set.

    Returns:
        [0, 1]; NaN when no pixel was counted.
    """
    iou = class_iou(confusion)
    present = iou[~np.isnan(iou)]
    return float(present.mean()) if len(present) else float("nan")


def pixel_accuracy(confusion: NDArray[Any]) -> float:
    """Share of the counted pixels of (K, K) counts whose class is right; NaN when there are none."""
    total = int(confusion.sum())
    return float(np.trace(confusion) / total) if total else float("nan")
