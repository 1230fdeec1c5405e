"""Strong colours in batches, with Kornia. The formulas are torchvision's; all draws come from the generator given."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from kornia.color import rgb_to_grayscale
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_saturation_with_gray_subtraction,
)
from kornia.filters import gaussian_blur2d
from torch import Tensor

from rc2l_bench.config import StrongConfig
from rc2l_bench.data.geometry import pieces, send
from rc2l_bench.data.hue import turn_hue
from rc2l_bench.data.randomness import Draws

Function = Callable[[Tensor, Tensor], Tensor]
"""From images (n, 3, H, W) and a value for each, (n,) or (n, 2) on the CPU, to such images."""
Change = tuple[Tensor, Function, Tensor]
"""Which images of a batch are changed, (B,) bool; how; and by which values, (B, ...). On the CPU."""


def recolour(image: Tensor, strong: StrongConfig, draws: Draws) -> Tensor:
    """Change brightness, contrast, saturation and hue (in this order), then make some images grey and blur some.

    The Gaussian kernels are cut at 2 σ of the largest σ of the range (our choice): one size serves the whole batch.

    Args:
        image: (B, 3, H, W) float, [0, 1].
        strong: strengths and probabilities.
        draws: source of the random numbers, for B rows.

    Returns:
        A new tensor like `image`, [0, 1].
    """
    changes = draw_changes(strong, draws)
    out = torch.empty_like(image)
    for rows in pieces(len(image), image.device):
        part = image[rows]
        for chosen, function, values in changes:
            part = _change(part, chosen[rows], function, values[rows])
        torch.clamp(part, 0, 1, out=out[rows])
    return out


def draw_changes(strong: StrongConfig, draws: Draws) -> list[Change]:
    """Draw what happens to a batch, in the order in which it happens."""
    jitter = draws.chosen(strong.jitter)
    changes: list[Change] = []
    for strength, function in (
        (strong.brightness, adjust_brightness_accumulative),
        (strong.contrast, adjust_contrast_with_mean_subtraction),
        (strong.saturation, adjust_saturation_with_gray_subtraction),
    ):
        # Drawn also where it is not used, so that one strength does not move the draws of another.
        factor = draws.uniform(max(0.0, 1 - strength), 1 + strength).flatten()
        changes += [(jitter, _with_sent(function), factor)] if strength > 0 else []
    turn = draws.uniform(-strong.hue, strong.hue).flatten() * 2 * math.pi
    changes += [(jitter, _with_sent(turn_hue), turn)] if strong.hue > 0 else []
    grey = draws.chosen(strong.grey)
    changes.append((grey, lambda x, _: rgb_to_grayscale(x).expand_as(x), grey))
    blur = draws.chosen(strong.blur)
    sigma = draws.uniform(*strong.sigma).expand(-1, 2)
    window = 2 * max(1, math.ceil(2 * strong.sigma[1])) + 1
    # Kornia looks whether they are positive, so they are given as the host has them.
    changes.append((blur, lambda x, s: gaussian_blur2d(x, window, s), sigma))
    return changes


def _with_sent(function: Function) -> Function:
    """Bring the values to where the images are, without waiting for it."""
    return lambda image, values: function(image, send(values, image.device))


def _change(image: Tensor, chosen: Tensor, function: Function, values: Tensor) -> Tensor:
    """Change those images that are chosen; the images that come in stay as they are."""
    rows = [row for row, wanted in enumerate(chosen.tolist()) if wanted]
    if not rows:
        return image
    if len(rows) == len(image):  # as on the CPU, where a piece is one image
        return function(image, values)
    index = torch.tensor(rows)
    there = send(index, image.device)
    return image.index_copy(0, there, function(image[there], values[index]))
