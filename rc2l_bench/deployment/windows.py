"""Predict a picture through overlapping windows, from top to bottom: memory holds a row of windows, not the picture.

The same windows and the same mean as `evaluate` has for protocols with sliding windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rc2l_bench.config import EvalConfig, Sliding, Whole
from rc2l_bench.deployment.photo_files import Rows
from rc2l_bench.run.evaluate import predict_logits, window_starts

Pixels = NDArray[np.uint8]


class Band(NamedTuple):
    """Some rows of a picture.

    Attributes:
        pixels: (n, W, 3) uint8.
        classes: (n, W) uint8, 0..K-1.
        confidence: (n, W) float32, probability of that class.
    """

    pixels: Pixels
    classes: Pixels
    confidence: NDArray[np.float32]


def decide(pixels: Pixels, probabilities: Tensor) -> Band:
    """Take the most probable class of every pixel.

    Args:
        pixels: (n, W, 3) uint8.
        probabilities: (K, n, W).
    """
    best = probabilities.max(0)
    return Band(pixels, best.indices.to(torch.uint8).cpu().numpy(), best.values.float().cpu().numpy())


def single_scale(evaluation: EvalConfig) -> EvalConfig:
    """Give the protocol that looks at a window once, as it is."""
    return evaluation.model_copy(update={"protocol": Whole(mode="whole"), "scales": [1.0], "flip": False})


class WindowedNetwork:
    """A network that looks through windows."""

    def __init__(
        self, network: nn.Module, rule: Sliding, evaluation: EvalConfig, image_scale: float, device: torch.device
    ) -> None:
        """Put them together.

        Args:
            network: images in [0, 1] -> class logits.
            rule: size of a window in network pixels, step, and how overlaps are combined.
            evaluation: of the run; its scales and mirror images are left out.
            image_scale: network pixels per image pixel.
            device: where the network lies.
        """
        self.network = network
        self.rule = rule
        self.evaluation = single_scale(evaluation)
        self.image_scale = image_scale
        self.device = device

    def slide(self, rows: Rows, most: int) -> Iterator[Band]:
        """Predict a picture.

        Args:
            rows: the picture.
            most: image pixels that the network is given at a time; at least one window is.

        Yields:
            Bands from top to bottom, which make up the picture.
        """
        height, width = rows.size
        # In image pixels, so that no more of the picture is read, and scaled, than a row of windows.
        tall, wide = (
            min(length, math.ceil(part / self.image_scale))
            for length, part in zip(rows.size, self.rule.window, strict=True)
        )
        tops = window_starts(height, tall, self.rule.stride)
        lefts = window_starts(width, wide, self.rule.stride)
        total, count = torch.zeros(0), torch.zeros(1, tall, width, device=self.device)
        for top, below in zip(tops, [*tops[1:], height], strict=True):
            band = rows.read(top, top + tall)
            for left, scores in self._scores(band, lefts, wide, most):
                if not len(total):
                    total = scores.new_zeros(len(scores), tall, width)
                total[..., left : left + wide] += scores
                count[..., left : left + wide] += 1
            done = below - top  # no further window reaches these rows
            yield decide(band[:done], self._combine(total[:, :done] / count[:, :done]))
            total, count = _shift(total, done), _shift(count, done)

    def _scores(self, band: Pixels, lefts: list[int], wide: int, most: int) -> Iterator[tuple[int, Tensor]]:
        """Left edge and scores (K, h, w) of the windows of a row, several at a time."""
        together = max(1, most // (band.shape[0] * wide))
        for start in range(0, len(lefts), together):
            chosen = lefts[start : start + together]
            images = torch.from_numpy(np.stack([band[:, left : left + wide] for left in chosen])).permute(0, 3, 1, 2)
            logits = predict_logits(self.network, images, self.evaluation, self.image_scale, self.device)
            yield from zip(chosen, logits.softmax(1) if self.rule.combine == "softmax" else logits, strict=True)

    def _combine(self, mean: Tensor) -> Tensor:
        """Probabilities of the mean of what windows gave."""
        return mean if self.rule.combine == "softmax" else mean.softmax(0)


def _shift(x: Tensor, rows: int) -> Tensor:
    """Move (C, h, W) up by some rows; zeros come in below."""
    out = torch.zeros_like(x)
    out[:, : x.shape[1] - rows] = x[:, rows:]
    return out
