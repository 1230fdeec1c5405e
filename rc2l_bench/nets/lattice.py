"""Where the cells of a feature map lie in the image, and how values move from one map to another.

Sizes alone do not say it: 16 cells of stride 4 over 64 pixels lie at 0, 4, …, 60 after convolutions that pad alike on
both sides, and at 1.5, 5.5, …, 61.5 after patches. Interpolation that knows only sizes is right for one kind of network
and one class of sizes: half-pixel centres for patches and multiples of the stride, aligned corners for convolutions and
one more than a multiple. With the centres themselves it is right for every size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Lattice:
    """The centres of the cells of a map, in height and width alike: cell i lies at pixel stride · i + offset.

    Attributes:
        stride: pixels between neighbouring centres; need not be whole.
        offset: pixel of the first centre; pixels have their centres at whole numbers.
    """

    stride: float
    offset: float = 0.0

    def cells(self, pixels: int) -> int:
        """Count the cells that an image of so many pixels has."""
        return math.ceil(pixels / self.stride)

    def scaled(self, factor: float) -> Lattice:
        """Give the lattice of a map that is this many times as large, a whole number or one over it.

        Larger: every cell is divided into equal ones, as by a transposed convolution without overlap. Smaller: every
        so many cells one is kept, the first one first, as by a convolution that pads alike on both sides.
        """
        stride = self.stride / factor
        return Lattice(stride, self.offset - max(0.0, self.stride - stride) / 2)


PIXELS = Lattice(1.0)
"""The image itself."""


@dataclass(frozen=True, slots=True)
class SizeRule:
    """The heights and widths that a network takes: those that leave `remainder` when divided by `multiple`."""

    multiple: int
    remainder: int

    def fit(self, pixels: int) -> int:
        """Return the smallest valid size that is not below a given one."""
        return pixels + (self.remainder - pixels) % self.multiple

    def nearest(self, pixels: int) -> int:
        """Return the valid size nearest to a given one, the larger of two."""
        larger = self.fit(pixels)
        smaller = larger - self.multiple
        return larger if larger - pixels <= pixels - smaller or smaller <= 0 else smaller

    def describe(self) -> str:
        """Say in words which sizes are valid."""
        if self.multiple == 1:
            return "any size"
        return (
            f"{self.remainder} more than multiples of {self.multiple}"
            if self.remainder
            else (f"multiples of {self.multiple}")
        )


def _weights(cells: int, have: Lattice, size: int, want: Lattice, like: Tensor) -> Tensor:
    """Weights (size, cells) of linear interpolation along one axis."""
    wanted = torch.arange(size, device=like.device, dtype=torch.float32) * want.stride
    place = ((wanted + (want.offset - have.offset)) / have.stride).clamp(0, cells - 1)
    centre = torch.arange(cells, device=like.device, dtype=torch.float32)
    return (1 - (place[:, None] - centre).abs()).clamp(min=0).to(like.dtype)


def resample(x: Tensor, have: Lattice, want: Lattice, size: tuple[int, int] | torch.Size) -> Tensor:
    """Interpolate bilinearly between the centres of cells.

    Two products with small matrices: exact for any stride and offset, with a backward pass that gives the same bits
    every time on a GPU, and not slower than `torch.nn.functional.interpolate` on a CPU.

    Args:
        x: (..., h, w) float, values at the cells of `have`.
        have: where they lie.
        want: where values are wanted.
        size: height and width of the result.

    Returns:
        (..., H, W); beyond the first and the last centre the value of the nearest cell.
    """
    if have == want and x.shape[-2:] == tuple(size):
        return x
    # Reduced precision would round the weights, and logits twice.
    with torch.autocast(x.device.type, enabled=False):
        rows, columns = (_weights(x.shape[axis], have, size[axis], want, x) for axis in (-2, -1))
        return rows @ (x @ columns.mT)


def pick(x: Tensor, want: Lattice, size: tuple[int, int] | torch.Size) -> Tensor:
    """Take the pixel nearest to the centre of every cell; nothing is mixed, so labels stay labels.

    Args:
        x: (..., H, W) any dtype, one value per pixel.
        want: the cells.
        size: height and width of the result, in cells.

    Returns:
        (..., h, w).
    """
    for axis in (-2, -1):
        centre = torch.arange(size[axis], device=x.device, dtype=torch.float32) * want.stride + want.offset
        x = x.index_select(axis, centre.round().long().clamp(0, x.shape[axis] - 1))
    return x


def find_lattices(strides: list[int], cells_of: Callable[[int], list[int]]) -> list[Lattice]:
    """Find where the cells of the stages of a network lie, from the number of cells alone.

    Where a network pads alike on both sides, cell i first appears in an image of s · i + 1 + 2 · offset pixels: its
    window then reaches as far beyond the last pixel as that of cell 0 begins before the first one. That holds for any
    chain of convolutions and poolings, so the size at which one more cell appears gives the offset (our derivation).

    Args:
        strides: of the stages.
        cells_of: cells along an axis of every stage for an image of so many pixels.

    Raises:
        ValueError: some stage does not have one more cell for every `stride` more pixels.
    """
    count = cache(cells_of)
    start = 2 * max(strides) - 1
    return [_find(stage, stride, start, count) for stage, stride in enumerate(strides)]


def _find(stage: int, stride: int, start: int, count: Callable[[int], list[int]]) -> Lattice:
    cell = count(start)[stage]
    if count(start + stride)[stage] != cell + 1:
        raise ValueError(f"stage {stage} has not one more cell for {stride} more pixels, its stride")
    # Patches show it after one pixel, convolutions that pad after two: so from the start, not by halves.
    pixels = next(n for n in range(start + 1, start + stride + 1) if count(n)[stage] > cell)
    return Lattice(float(stride), (pixels - 1 - stride * cell) / 2)
