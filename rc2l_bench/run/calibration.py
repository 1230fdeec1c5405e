"""Count how sure predictions are and how often they are right, image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rc2l_bench.metrics import BINS, Floats

_LOG2_E = 1 / math.log(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was counted of N images.

    Attributes:
        bins: (N, 3, BINS) float64: of every bin of confidence its counted pixels, those of them that are right, and the
            sum of their confidences.
        nll: (N,) float64: negative log-likelihood of the truth, summed over the counted pixels.
    """

    bins: Floats
    nll: Floats

    def take(self, rows: Sequence[int]) -> Calibration:
        """Pick images."""
        return Calibration(bins=self.bins[rows], nll=self.nll[rows])


def join(parts: Sequence[Calibration]) -> Calibration:
    """Put the images of several counts together, in their order; without any, those of no images."""
    bins = [np.zeros((0, 3, BINS)), *(part.bins for part in parts)]
    return Calibration(bins=np.concatenate(bins), nll=np.concatenate([np.zeros(0), *(part.nll for part in parts)]))


def count_calibration(logits: Tensor, best: Tensor, prediction: Tensor, label: Tensor) -> Calibration:
    """Count the confidences of predictions, right and wrong ones, and the likelihood of the truth.

    Args:
        logits: (B, K, H, W) float32; log-probabilities will do.
        best: (B, H, W) largest logit of every pixel.
        prediction: (B, H, W), its class, of the type of `label`.
        label: (B, H, W) uint8 or integer, 0..K-1; anything else is not counted.
    """
    found = [count_sure(*one[2:], *find_sure(*one)) for one in zip(logits, best, prediction, label, strict=True)]
    bins, nll = (torch.stack(column).cpu().numpy() for column in zip(*found, strict=True))
    return Calibration(bins=bins, nll=nll)


def find_sure(logits: Tensor, best: Tensor, guess: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute how sure the prediction of every pixel of one image is.

    Args:
        logits: (K, H, W) float32.
        best: (H, W) largest logit of every pixel.
        guess: (H, W), its class, of the type of `truth`.
        truth: (H, W) uint8 or integer.

    Returns:
        Confidence, the largest probability of the softmax, to about 1e-6; negative log-likelihood of the truth, of the
        prediction where there is no truth; whether there is one, uint8: (H, W) each.
    """
    counted = (truth.clamp(max=len(logits) - 1) == truth).view(torch.uint8)
    total = _sum_exponentials(logits, best)
    # The prediction where nothing is counted: something finite, so that it can be multiplied by 0. Bytes wrap around,
    # and in bytes this takes a quarter of the time of `where`.
    known = truth.sub(guess).mul_(counted).add_(guess)
    own = logits.gather(0, known.long()[None])[0]
    return total.reciprocal(), torch.sub(best, own, out=own).add_(total.log_()), counted


def _sum_exponentials(logits: Tensor, best: Tensor) -> Tensor:
    """Sum up exp(logits - best) over the classes of one image, (K, H, W) to (H, W); at least 1."""
    # In base 2, because `exp2` takes half the time of `exp`; class by class, because a plane fits into a cache.
    total, term = torch.zeros_like(best), torch.empty_like(best)
    for plane in logits:
        total += torch.sub(plane, best, out=term).mul_(_LOG2_E).exp2_()
    return total.clamp_(min=1)


def count_sure(guess: Tensor, truth: Tensor, confidence: Tensor, nll: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Count one image, (H, W) each, see `find_sure`.

    Bins are those of Guo et al., "On Calibration of Modern Neural Networks", ICML 2017: bin m of M holds confidences in
    (m - 1, m] / M.

    Returns:
        Bins (3, BINS) and summed negative log-likelihood, as in `Calibration`; float64.
    """
    # Cut off after the point, BINS + 1 - M · confidence is BINS + 1 - m: bins from the last to the first, from 1 on.
    # As int8, because the conversion to uint8 takes three times as long. Two cells for every bin, wrong and right; the
    # first two are for pixels that are not counted.
    cell = torch.rsub(confidence, BINS + 1, alpha=BINS).to(torch.int8).view(torch.uint8)
    cell = cell.mul_(2).add_(guess == truth).mul_(counted).flatten()
    pixels = cell.bincount(minlength=2 * BINS + 2)[2 : 2 * BINS + 2].view(BINS, 2)
    # Not the weights of `bincount`, which CUDA has no deterministic kernel for.
    sums = torch.zeros(256, dtype=torch.float64, device=cell.device)
    sums.scatter_add_(0, cell.long(), confidence.flatten().double())
    shares = sums[2 : 2 * BINS + 2].view(BINS, 2).sum(1)
    bins = torch.stack([pixels.sum(1).double(), pixels[:, 1].double(), shares]).flip(1)
    return bins, nll.mul(counted).sum(dtype=torch.float64)
