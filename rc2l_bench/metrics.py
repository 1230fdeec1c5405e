"""Compute scores from confusion counts, without torch: mIoU as VOC and Cityscapes define it, pixel accuracy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def areas_of(confusion: NDArray[np.integer]) -> Floats:
    """Reduce confusion matrices to what the mIoU needs.

    Areas add up over images, so statistics resample these (2K numbers of an image) instead of the K² counts.

    Args:
        confusion: (..., K, K) counts, rows = truth, columns = prediction.

    Returns:
        (..., 2, K) float64: intersection and union of every class, in pixels.
    """
    # Summed in float64: exact up to 2^53 pixels, however narrow the integers that come in.
    hit = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    union = confusion.sum(-1, dtype=np.float64) + confusion.sum(-2, dtype=np.float64) - hit
    return np.stack([hit, union], axis=-2)


def class_iou(areas: Floats) -> Floats:
    """Compute the IoU of every class.

    Args:
        areas: (..., 2, K), see `areas_of`.

    Returns:
        (..., K) in [0, 1]; nan for a class with neither truth nor prediction.
    """
    hit, union = areas[..., 0, :], areas[..., 1, :]
    return np.divide(hit, union, out=np.full_like(hit, np.nan), where=union > 0)


def mean_iou(areas: Floats) -> Floats:
    """Average the IoU over the classes that have truth or prediction.

    A class that is predicted but nowhere true counts with an IoU of 0; one that is neither is left out.

    Args:
        areas: (..., 2, K), see `areas_of`.

    Returns:
        (...) in [0, 1]; nan where no class has a pixel.
    """
    hit, union = areas[..., 0, :], areas[..., 1, :]
    # Not `nanmean(class_iou(areas))`: it warns where a resample has no class at all, and a warning is an error here.
    iou = np.divide(hit, union, out=np.zeros_like(hit), where=union > 0)
    present = (union > 0).sum(-1)
    return np.asarray(np.divide(iou.sum(-1), present, out=np.full(present.shape, np.nan), where=present > 0))


def pixel_accuracy(confusion: NDArray[np.integer]) -> float:
    """Compute the share of counted pixels whose class is right.

    Args:
        confusion: (K, K) counts, rows = truth, columns = prediction.

    Returns:
        A share in [0, 1]; nan when no pixel was counted.
    """
    total = int(confusion.sum())
    return float(np.trace(confusion) / total) if total else float("nan")
