"""Turning the hue of RGB images without a way through HSV: no division, no case, one pass over the planes.

Stands alone (torch only) and takes what `kornia.enhance.adjust_hue` takes, whose results it has.

For a pixel with largest channel V, smallest m and chroma C = V - m, let h be its hue in sextants (0 = red, 2 = green,
4 = blue) and u = (h - 3)·C. In HSV's hexagon each channel is m plus a trapezoid of the hue: for red it rises over the
fifth sextant, stays at C over two, falls over the second and is 0 over two, so that (r - g - b + m) + C = |u| - C
outside of the clamping to [0, C]. Solving for u gives

    u = sign(b - g) · (r - g - b + 2V - m)

with neither a division by C nor a comparison of who is largest. A turn adds its sextants times C to u, and the
trapezoids of red, green and blue, folded so that the hue may wrap around, are evaluated at the new place.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def turn_hue(image: Tensor, angle: Tensor) -> Tensor:
    """Turn the hue and leave saturation and value (of HSV) as they are.

    Args:
        image: (B, 3, H, W) float, [0, 1].
        angle: (B,) float, radians from -π to π.

    Returns:
        A new tensor like `image`, [0, 1] up to rounding.
    """
    red, green, blue = image.unbind(-3)
    highest = torch.maximum(torch.maximum(red, green), blue)
    lowest = torch.minimum(torch.minimum(red, green), blue)
    chroma = highest - lowest
    place = (red - green).sub_(blue).add_(highest, alpha=2).sub_(lowest)
    place = torch.copysign(place, blue - green)
    place.addcmul_(chroma, (angle * (3 / math.pi)).view(-1, 1, 1))
    out = torch.empty_like(image)
    for channel, centre in enumerate((0, 1, -1)):
        _trapezoid(place, chroma, lowest, centre, out.select(-3, channel))
    return out


def _trapezoid(place: Tensor, chroma: Tensor, lowest: Tensor, centre: int, out: Tensor) -> None:
    """Write the channel whose plateau lies opposite to (0), or one sextant from, the hue 3.

    Red is opposite: its plateau is the middle of the fold. Green has it one sextant below 3 (at 2), blue one above.
    """
    torch.add(place, chroma, alpha=centre, out=out)
    out.abs_().sub_(chroma, alpha=3).abs_()
    if centre:
        out.sub_(chroma)
    else:
        out.neg_().add_(chroma, alpha=2)
    torch.minimum(out.clamp_(min=0), chroma, out=out).add_(lowest)
