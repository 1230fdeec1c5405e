"""Spoil images in fixed ways, to score a network on what it was not trained for.

Kinds and strengths are those of ImageNet-C (Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR 2019) at severity 3 of 5, as its released code has them. Its images have 224 pixels
on a side; that the width of the blur grows with the image is our choice, and so is its edge, which is repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from kornia.color import hsv_to_rgb, rgb_to_hsv
from kornia.enhance import jpeg_codec_differentiable
from kornia.filters import gaussian_blur2d
from torch import Tensor

from rc2l_bench.config import Corruption
from rc2l_bench.draws import derive

NOISE = 0.18
"""Standard deviation, of values in [0, 1]."""
BLUR = 3 / 224
"""Standard deviation of the Gaussian, as a share of the image's shorter side; it is cut at 4 of them."""
BRIGHTNESS = 0.3
"""What is added to the value of HSV."""
CONTRAST = 0.2
"""Share that is left of every pixel's distance to the mean of its channel over the image."""
JPEG = 15.0
"""Quality, of 100."""
SEED = 0
"""Of the noise: it depends on this and on the image alone, so that every run is scored on the same spoilt images."""


def _add_noise(image: Tensor, ids: Sequence[str]) -> Tensor:
    # Drawn on the CPU, so that it is the same on every device.
    generators = [torch.Generator().manual_seed(derive(SEED, f"corruption/noise/{name}")) for name in ids]
    noise = torch.stack([torch.randn(image.shape[1:], generator=one) for one in generators])
    return image + NOISE * noise.to(image.device)


def _blur(image: Tensor, _: Sequence[str]) -> Tensor:
    sigma = BLUR * min(image.shape[-2:])
    window = 2 * math.ceil(4 * sigma) + 1
    return gaussian_blur2d(image, window, (sigma, sigma), "replicate")


def _brighten(image: Tensor, _: Sequence[str]) -> Tensor:
    hue, saturation, value = rgb_to_hsv(image).unbind(1)
    return hsv_to_rgb(torch.stack([hue, saturation, (value + BRIGHTNESS).clamp(max=1)], 1))


def _flatten_contrast(image: Tensor, _: Sequence[str]) -> Tensor:
    return image.mean((2, 3), keepdim=True).lerp(image, CONTRAST)


def _compress(image: Tensor, _: Sequence[str]) -> Tensor:
    return jpeg_codec_differentiable(image, torch.tensor([JPEG], device=image.device))


_FUNCTIONS: Mapping[Corruption, Callable[[Tensor, Sequence[str]], Tensor]] = {
    "noise": _add_noise,
    "blur": _blur,
    "brightness": _brighten,
    "contrast": _flatten_contrast,
    "jpeg": _compress,
}


def corrupt(image: Tensor, ids: Sequence[str], name: Corruption, device: torch.device) -> Tensor:
    """Spoil images.

    Args:
        image: (B, 3, H, W) uint8, at their own size.
        ids: their names, which the noise is drawn by.
        name: of the corruption.
        device: where to compute.

    Returns:
        (B, 3, H, W) uint8 on the device, rounded as an image file would be.
    """
    spoilt = _FUNCTIONS[name](image.to(device).float() / 255, ids)
    return (spoilt.clamp(0, 1) * 255).round().to(torch.uint8)
