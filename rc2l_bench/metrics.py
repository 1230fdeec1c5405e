"""Compute scores from counts, without torch: mIoU as VOC and Cityscapes define it, pixel accuracy, calibration."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


Absent = Literal["skip", "predicted", "zero"]
"""What a class without truth counts for in a mean, see `class_iou`."""

BINS = 15
"""Bins of confidence, equally wide; Guo et al. (ICML 2017) take as many."""


def areas_of(confusion: NDArray[np.integer]) -> Floats:
    """Reduce confusion matrices to what the mIoU needs.

    Areas add up over images, so statistics resample these (2K numbers of an image) instead of the K² counts.

    Args:
        confusion: (..., K, K) counts, rows = truth, columns = prediction.

    Returns:
        (..., 3, K): intersection, union and truth of every class, in pixels.
    """
    # Summed in float64: exact up to 2^53 pixels, however narrow the integers that come in.
    hit = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    truth = confusion.sum(-1, dtype=np.float64)
    return np.stack([hit, truth + confusion.sum(-2, dtype=np.float64) - hit, truth], axis=-2)


def class_iou(areas: Floats, absent: Absent) -> Floats:
    """Compute the IoU of every class.

    Args:
        areas: (..., 3, K) from `areas_of`.
        absent: what a class without truth counts for. `skip`: it is left out, so that all predictions for the same
            images are averaged over the same classes; pixels predicted as it are in the union of the class that they
            hide. `predicted`: 0 where some pixel is predicted as it, else left out (CPS, mmseg, torchmetrics). `zero`:
            0 always (U2PL, UniMatch).

    Returns:
        (..., K); nan for a class that is left out, and for all where there is no truth at all.
    """
    hit, union, truth = areas[..., 0, :], areas[..., 1, :], areas[..., 2, :]
    iou = np.divide(hit, union, out=np.full_like(hit, 0.0 if absent == "zero" else np.nan), where=union > 0)
    counts = truth > 0 if absent == "skip" else truth.any(-1, keepdims=True)
    return np.where(counts, iou, np.nan)


def mean_iou(areas: Floats, absent: Absent) -> Floats:
    """Average the IoU over the classes that count, see `class_iou`: (..., 3, K) to (...); nan where none does."""
    iou = class_iou(areas, absent)
    counts = ~np.isnan(iou)
    count = counts.sum(-1)
    total = np.where(counts, iou, 0.0).sum(-1)
    return np.asarray(np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0))


def pixel_accuracy(confusion: NDArray[np.integer]) -> float:
    """Compute the share of the counted pixels of (K, K) counts whose class is right; NaN when there are none."""
    total = int(confusion.sum())
    return float(np.trace(confusion) / total) if total else float("nan")


def calibration_error(bins: Floats) -> Floats:
    """Compute the expected calibration error: how far confidence is from accuracy, on the average over pixels.

    ECE = Σ_m |B_m| / n · |acc(B_m) - conf(B_m)| (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
    equation 3). Counts add up over images, so the sum over images gives the error of all their pixels together.

    Args:
        bins: (..., 3, BINS): pixels, pixels that are right, and the sum of the confidences of every bin.

    Returns:
        (...) in [0, 1]; nan where there is no pixel.
    """
    total = bins[..., 0, :].sum(-1)
    gaps = np.abs(bins[..., 1, :] - bins[..., 2, :]).sum(-1)
    return np.asarray(np.divide(gaps, total, out=np.full(total.shape, np.nan), where=total > 0))


def mean_over_pixels(sums: Floats, bins: Floats) -> Floats:
    """Divide sums over the counted pixels by their number.

    Args:
        sums: (...), such as the negative log-likelihood.
        bins: (..., 3, BINS) of the same images, see `calibration_error`.

    Returns:
        (...); nan where there is no pixel.
    """
    total = bins[..., 0, :].sum(-1)
    return np.asarray(np.divide(sums, total, out=np.full(total.shape, np.nan), where=total > 0))
