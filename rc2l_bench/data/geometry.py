"""Scale, crop and flip of training images as one affine warp, which reads no more of an image than the crop needs.

A `Frame` says where the pixels of one crop lie in one image; it is drawn before the image is decoded. The part of the
image that it reads is cut out while it is uint8 (`Window`), in the process that decodes; masks, which are looked up
and not mixed, become crops there. What remains for the training device is one bilinear sampling of the windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rc2l_bench.config import Protocol, WeakConfig
from rc2l_bench.data.randomness import Draws
from rc2l_bench.types import IGNORE

Pixels = NDArray[np.uint8]

FILL = (0.485, 0.456, 0.406)
"""Colour outside the image: the ImageNet mean, so that it is near 0 once a backbone has normalised it."""


@dataclass(frozen=True)
class Axis:
    """One side of a crop: which source pixels it reads.

    Attributes:
        scale: crop pixels per image pixel; negative = mirrored.
        offset: place of the image's first pixel in the crop.
        crop: pixels of the crop.
        image: pixels of the image.
    """

    scale: float
    offset: float
    crop: int
    image: int

    @cached_property
    def places(self) -> NDArray[np.float64]:
        """(crop,) where each crop pixel comes from; pixel centres lie at whole numbers."""
        # In double precision: with thousands of pixels, single precision is off by a thousandth of a pixel.
        return (np.arange(self.crop, dtype=np.float64) - self.offset) / self.scale

    @cached_property
    def inside(self) -> slice:
        """The crop pixels whose nearest source pixel exists; they lie side by side."""
        nearest = np.rint(self.places)
        found = np.flatnonzero((nearest >= 0) & (nearest < self.image))
        return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)

    @cached_property
    def window(self) -> slice:
        """The source pixels that are read: both neighbours of each place, as far as there are any."""
        places = np.clip(self.places[[0, -1]], 0, self.image - 1)
        return slice(int(np.floor(places.min())), int(np.ceil(places.max())) + 1)

    @cached_property
    def nearest(self) -> NDArray[np.int64]:
        """The source pixel of each crop pixel that is inside."""
        return np.rint(self.places[self.inside]).astype(np.int64)

    @cached_property
    def grid(self) -> NDArray[np.float64]:
        """(crop,) places inside the window in pixels; what lies outside the image is moved to its border."""
        found: NDArray[np.float64] = np.clip(self.places, 0, self.image - 1) - self.window.start
        return found


@dataclass(frozen=True)
class Frame:
    """Where the pixels of one crop lie in one image."""

    rows: Axis
    columns: Axis

    @property
    def whole(self) -> bool:
        """Whether no crop pixel lies outside the image."""
        return all(axis.inside == slice(0, axis.crop) for axis in (self.rows, self.columns))


@dataclass(frozen=True)
class Window:
    """What one crop needs of one sample.

    Attributes:
        id: of the sample.
        pixels: (h, w, 3) uint8, the part of the image that the frame reads.
        label: (H, W) uint8, the crop of the mask, 255 outside; None where there is no mask.
        frame: where the crop lies.
    """

    id: str
    pixels: Pixels
    label: Pixels | None
    frame: Frame


def cut(identity: str, frame: Frame, image: Pixels, mask: Pixels | None) -> Window:
    """Cut out what a frame needs, as a copy, so that a large image need not be kept for a small crop.

    Args:
        identity: id of the sample.
        frame: of this image.
        image: (h, w, 3) uint8.
        mask: (h, w) uint8.
    """
    rows, columns = frame.rows, frame.columns
    label = None
    if mask is not None:
        label = np.full((rows.crop, columns.crop), IGNORE, np.uint8)
        label[rows.inside, columns.inside] = mask[rows.nearest[:, None], columns.nearest]
    pixels = np.ascontiguousarray(image[rows.window, columns.window])
    return Window(id=identity, pixels=pixels, label=label, frame=frame)


def draw_warp(draws: Draws, size: Tensor, crop: tuple[int, int], weak: WeakConfig, image_scale: float) -> Tensor:
    """Draw scale, crop and flip of every image, as one affine map.

    The crop lies at a random place inside the scaled image, or the image at a random place inside the crop where it
    is the smaller one.

    Args:
        draws: source of the random numbers, for B rows.
        size: (B, 2) int64, height and width of the images.
        crop: height and width of the result, pixels.
        weak: ranges.
        image_scale: result pixels per image pixel at magnification 1.

    Returns:
        (B, 2, 3) float32; maps pixel coordinates (x, y) of the image to pixel coordinates of the crop.
    """
    scale = draws.log_uniform(*weak.scale) * image_scale
    position = draws.uniform(0, 1, 2)
    flip = draws.uniform(0, 1) < weak.flip
    room = size.float() * scale - torch.tensor(crop, dtype=torch.float32)
    offset = position * room
    matrix = torch.zeros(len(size), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = scale[:, 0]
    matrix[:, :, 2] = (scale - 1) / 2 - offset.flip(1)  # pixel centres lie at whole numbers
    mirrored = matrix[:, 0] * -1
    mirrored[:, 2] += crop[1] - 1
    matrix[:, 0] = torch.where(flip, mirrored, matrix[:, 0])
    return matrix


def frames_of(matrix: Tensor, size: Tensor, crop: tuple[int, int]) -> list[Frame]:
    """Turn affine maps (B, 2, 3) of `draw_warp` for images of size (B, 2) into frames."""
    return [
        Frame(Axis(map_y[1], map_y[2], crop[0], height), Axis(map_x[0], map_x[2], crop[1], width))
        for (map_x, map_y), (height, width) in zip(matrix.tolist(), size.tolist(), strict=True)
    ]


class Geometry:
    """The frames of every batch; the same ones for the same (seed, stream, step)."""

    def __init__(self, protocol: Protocol, seed: int, rank: int = 0, world: int = 1) -> None:
        """Say how to draw.

        Args:
            protocol: crop and scale: the same for every method.
            seed: of the cell.
            rank: number of this process.
            world: number of processes.
        """
        self.protocol, self.seed, self.rank, self.world = protocol, seed, rank, world

    def draws(self, stream: str, step: int, images: int) -> Draws:
        """Begin the draws of a step for this process's share of the images."""
        rows = slice(self.rank * images, (self.rank + 1) * images)
        return Draws(self.seed, f"augment/{stream}", step, images * self.world, rows)

    def frames(self, stream: str, step: int, size: Tensor) -> list[Frame]:
        """Draw the frames of this process's images of a step.

        Args:
            stream: `labelled` or `unlabelled`.
            step: training step.
            size: (B, 2) int64, height and width of the images.
        """
        protocol = self.protocol
        draws = self.draws(stream, step, len(size))
        matrix = draw_warp(draws, size, protocol.crop, protocol.weak, protocol.image_scale)
        return frames_of(matrix, size, protocol.crop)


def warp(windows: Sequence[Window], crop: tuple[int, int], device: torch.device) -> Tensor:
    """Sample the crops of images, bilinear, on a device.

    Args:
        windows: B of them.
        crop: height and width.
        device: where the crops are wanted.

    Returns:
        (B, 3, H, W) float32 in [0, 1], FILL outside the images.
    """
    out = torch.empty((len(windows), 3, *crop), device=device)
    for rows in pieces(len(windows), device):
        part = windows[rows]
        pixels = send(_pack(part, pin=device.type == "cuda"), device)
        image = pixels.float().mul_(1 / 255).permute(0, 3, 1, 2)  # a view: the sampling reads colours side by side
        grid = _grid(part, pixels.shape[1:3], device)
        out[rows] = F.grid_sample(image, grid, "bilinear", "border", align_corners=False)
    _fill_outside(out, windows)
    return out


def validity(windows: Sequence[Window], crop: tuple[int, int], device: torch.device) -> Tensor:
    """Mark the crop pixels that lie inside their images: (B, H, W) bool."""
    found = np.zeros((len(windows), *crop), bool)
    for mark, window in zip(found, windows, strict=True):
        mark[window.frame.rows.inside, window.frame.columns.inside] = True
    return send(torch.from_numpy(found), device)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Bring a tensor to a device; to CUDA by pinned memory, so that nobody waits for the copy."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def pieces(images: int, device: torch.device) -> Iterator[slice]:
    """Divide a batch as a device likes it: one by one for the cache of a CPU, all at once for an accelerator."""
    size = 1 if device.type == "cpu" else max(1, images)
    return (slice(first, min(first + size, images)) for first in range(0, images, size))


def _pack(windows: Sequence[Window], *, pin: bool) -> Tensor:
    """(B, h, w, 3) uint8, large enough for the largest window, whose last row and column are repeated once.

    Rounding may give what lies behind the last pixel a weight of 1e-5, so it must not be chance.
    """
    if len(windows) == 1:
        return torch.from_numpy(windows[0].pixels)[None]
    height, width = (max(window.pixels.shape[axis] for window in windows) for axis in (0, 1))
    packed = torch.zeros((len(windows), height, width, 3), dtype=torch.uint8, pin_memory=pin)
    for place, window in zip(packed.numpy(), windows, strict=True):
        h, w = window.pixels.shape[:2]
        place[:h, :w] = window.pixels
        place[h : h + 1, :w] = window.pixels[-1:]
        place[: h + 1, w : w + 1] = place[: h + 1, w - 1 : w]
    return packed


def _grid(windows: Sequence[Window], size: Sequence[int], device: torch.device) -> Tensor:
    """(B, H, W, 2) for `grid_sample`: x and y from -1 to 1 over packed windows of a height and width."""
    x, y = (
        send(torch.tensor(np.stack([(2 * axis.grid + 1) / length - 1 for axis in axes]), dtype=torch.float32), device)
        for axes, length in (
            ([window.frame.columns for window in windows], size[1]),
            ([window.frame.rows for window in windows], size[0]),
        )
    )
    grid = torch.empty(*y.shape, x.shape[1], 2, device=device)
    grid[..., 0] = x[:, None]
    grid[..., 1] = y[:, :, None]
    return grid


def _fill_outside(out: Tensor, windows: Sequence[Window]) -> None:
    """Write FILL where a crop lies outside its image."""
    fill = send(torch.tensor(FILL).view(3, 1, 1), out.device)
    for crop, window in zip(out, windows, strict=True):
        if window.frame.whole:
            continue
        rows, columns = window.frame.rows.inside, window.frame.columns.inside
        for part in (
            crop[:, : rows.start],
            crop[:, rows.stop :],
            crop[..., : columns.start],
            crop[..., columns.stop :],
        ):
            part.copy_(fill)
