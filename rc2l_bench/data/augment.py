"""Augmentation in batches, with Kornia, on the training device. All draws replay from (seed, step)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from kornia.color import rgb_to_grayscale
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_hue,
    adjust_saturation_with_gray_subtraction,
)
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import warp_affine
from torch import Tensor

from rc2l_bench.config import MixConfig, Protocol, StrongConfig, Views, WeakConfig
from rc2l_bench.draws import derive
from rc2l_bench.types import IGNORE, Batch

FILL = (0.485, 0.456, 0.406)
"""Colour outside the image: the ImageNet mean, so that it is near 0 once a backbone has normalised it."""


class Draws:
    """Uniform numbers for the images of one global batch, of which this process takes its rows.

    Every process draws for all images, so that the number of processes changes nothing.
    """

    def __init__(self, seed: int, stream: str, step: int, images: int, rows: slice) -> None:
        self.generator = torch.Generator().manual_seed(derive(seed, stream, step))
        self.images = images
        self.rows = rows

    def uniform(self, low: float, high: float, columns: int = 1) -> Tensor:
        """(rows, columns) float32 on the CPU, uniform in [low, high)."""
        unit = torch.rand(self.images, columns, generator=self.generator)
        return low + (high - low) * unit[self.rows]

    def log_uniform(self, low: float, high: float, columns: int = 1) -> Tensor:
        """(rows, columns) float32 on the CPU, log-uniform in [low, high)."""
        return self.uniform(math.log(low), math.log(high), columns).exp()

    def chosen(self, probability: float) -> Tensor:
        """Indices (n,) int64 of the rows that are chosen with a probability."""
        return (self.uniform(0, 1) < probability).flatten().nonzero().flatten()


def draw_warp(draws: Draws, size: Tensor, crop: tuple[int, int], weak: WeakConfig, image_scale: float) -> Tensor:
    """Scale, crop and flip of every image, as one affine map.

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


def warp(image: Tensor, tag: Tensor, matrix: Tensor, crop: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Applies affine maps to images and to whole numbers that lie on them.

    Args:
        image: (B, 3, h, w) uint8.
        tag: (B, h, w) uint8 or int16, non-negative; 0 = nothing is there.
        matrix: (B, 2, 3) from `draw_warp`.
        crop: height and width of the result.

    Returns:
        Image (B, 3, H, W) float32 in [0, 1], bilinear, FILL where the tag is 0; tag (B, H, W) int64, nearest.
    """
    warped = warp_affine(image.float() / 255, matrix, crop, mode="bilinear", padding_mode="border")
    tags = warp_affine(tag[:, None].float(), matrix, crop, mode="nearest", padding_mode="zeros")
    fill = torch.tensor(FILL, device=image.device).view(1, 3, 1, 1)
    return torch.where(tags > 0, warped, fill), tags[:, 0].round().long()


def inside(size: Tensor, canvas: tuple[int, int] | torch.Size) -> Tensor:
    """Which pixels of the canvas belong to the images: (B, h, w) bool from sizes (B, 2)."""
    rows = torch.arange(canvas[0], device=size.device)[None, :, None] < size[:, 0, None, None]
    columns = torch.arange(canvas[1], device=size.device)[None, None, :] < size[:, 1, None, None]
    return rows & columns


def fill_canvas(image: Tensor, size: Tensor) -> Tensor:
    """Repeats the last row and column of every image over the rest of its canvas, so that nothing is mixed with black.

    Args:
        image: (B, C, h, w), any dtype.
        size: (B, 2) int64, height and width inside the canvas.
    """
    canvas = image.shape[-2:]
    if bool((size == torch.tensor(canvas)).all()):
        return image
    near = [torch.minimum(torch.arange(n), size[:, axis, None] - 1) for axis, n in enumerate(canvas)]
    rows, columns = (index.to(image.device) for index in near)
    one, channel = (torch.arange(n, device=image.device) for n in image.shape[:2])
    return image[one[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def _change(image: Tensor, rows: Tensor, function: Callable[[Tensor, Tensor], Tensor], values: Tensor) -> Tensor:
    """Applies a function to some images of a batch, each with its own value."""
    if len(rows) == 0:
        return image
    rows = rows.to(image.device)
    return image.index_copy(0, rows, function(image[rows], values.to(image.device)))


def recolour(image: Tensor, strong: StrongConfig, draws: Draws) -> Tensor:
    """Strong colours: brightness, contrast, saturation, hue (torchvision's formulas, in this order), grey, blur.

    Args:
        image: (B, 3, H, W) float, [0, 1].
        strong: strengths and probabilities.
        draws: source of the random numbers, for B rows.

    Returns:
        A new tensor like `image`, [0, 1].
    """
    jitter = draws.chosen(strong.jitter)
    for strength, function in (
        (strong.brightness, adjust_brightness_accumulative),
        (strong.contrast, adjust_contrast_with_mean_subtraction),
        (strong.saturation, adjust_saturation_with_gray_subtraction),
    ):
        factor = draws.uniform(max(0.0, 1 - strength), 1 + strength).flatten()
        if strength > 0:
            image = _change(image, jitter, function, factor[jitter])
    turn = draws.uniform(-strong.hue, strong.hue).flatten() * 2 * math.pi
    if strong.hue > 0:
        image = _change(image, jitter, adjust_hue, turn[jitter])
    grey = draws.chosen(strong.grey)
    image = _change(image, grey, lambda x, _: rgb_to_grayscale(x).expand_as(x), grey)
    blur = draws.chosen(strong.blur)
    sigma = draws.uniform(*strong.sigma)
    radius = max(1, math.ceil(2 * strong.sigma[1]))
    image = _change(image, blur, lambda x, s: gaussian_blur2d(x, 2 * radius + 1, s.expand(-1, 2)), sigma[blur])
    return image.clamp(0, 1)


def draw_boxes(draws: Draws, crop: tuple[int, int], mix: MixConfig) -> Tensor:
    """CutMix boxes.

    Args:
        draws: source of the random numbers, for B rows.
        crop: height and width of the images.
        mix: number, area and form of the boxes.

    Returns:
        (B, H, W) bool, True inside an odd number of boxes; all False where an image is not mixed.
    """
    height, width = crop
    area = draws.uniform(*mix.area) * height * width / mix.boxes
    ratio = draws.log_uniform(*mix.ratio, columns=mix.boxes)
    tall = (area * ratio).sqrt().clamp(max=height)
    wide = (area / tall.clamp(min=1e-6)).clamp(max=width)
    top = draws.uniform(0, 1, mix.boxes) * (height - tall)
    left = draws.uniform(0, 1, mix.boxes) * (width - wide)
    y = torch.arange(height) + 0.5
    x = torch.arange(width) + 0.5
    rows = (y >= top[..., None]) & (y < (top + tall)[..., None])
    columns = (x >= left[..., None]) & (x < (left + wide)[..., None])
    boxes = rows[..., :, None] & columns[..., None, :]
    mixed = draws.uniform(0, 1) < mix.probability
    return (boxes.sum(1) % 2 == 1) & mixed[..., None]


def paste(x: Tensor, box: Tensor) -> Tensor:
    """CutMix: takes the pixels inside the boxes from the partner, image 2i + 1 for image 2i and the other way round.

    Args:
        x: (U, C, H, W) or (U, H, W), any dtype; U even.
        box: (U, H, W) bool.

    Returns:
        A tensor like `x`.
    """
    partner = x.reshape(-1, 2, *x.shape[1:]).flip(1).reshape(x.shape)
    return torch.where(box[:, None] if x.ndim == 4 else box, partner, x)


class Augmenter:
    """Makes a `Batch` of loaded uint8 images; the same one for the same (seed, step)."""

    def __init__(
        self, protocol: Protocol, views: Views, seed: int, device: torch.device, rank: int = 0, world: int = 1
    ) -> None:
        """Says how to augment.

        Args:
            protocol: crop, scale, colours: the same for every method.
            views: how many strong views the method wants, and their CutMix boxes.
            seed: of the cell.
            device: where the batch is wanted.
            rank: number of this process.
            world: number of processes.
        """
        self.protocol = protocol
        self.views = views
        self.seed = seed
        self.device = device
        self.rank = rank
        self.world = world

    def _draws(self, stream: str, step: int, images: int) -> Draws:
        rows = slice(self.rank * images, (self.rank + 1) * images)
        return Draws(self.seed, f"augment/{stream}", step, images * self.world, rows)

    def _weak(self, stream: str, step: int, image: Tensor, tag: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        draws = self._draws(stream, step, len(image))
        matrix = draw_warp(draws, size, self.protocol.crop, self.protocol.weak, self.protocol.image_scale)
        return warp(fill_canvas(image.to(self.device), size), tag, matrix.to(self.device), self.protocol.crop)

    def labelled(self, image: Tensor, label: Tensor, size: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Weak views of labelled images.

        Args:
            image: (L, 3, h, w) uint8.
            label: (L, h, w) uint8, 0..K-1 or 255.
            size: (L, 2) int64, height and width inside the canvas.
            step: training step.

        Returns:
            Image (L, 3, H, W) float in [0, 1]; label (L, H, W) int64, 255 outside the image.
        """
        tag = torch.where(inside(size, label.shape[-2:]), label.short() + 1, 0).to(self.device)
        warped, tags = self._weak("labelled", step, image, tag, size)
        return warped, torch.where(tags > 0, tags - 1, IGNORE)

    def unlabelled(self, image: Tensor, size: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weak and strong views of unlabelled images, boxes and validity, as in `Batch`."""
        tag = inside(size, image.shape[-2:]).to(self.device)
        weak, tags = self._weak("unlabelled", step, image, tag, size)
        crop = self.protocol.crop
        strong = torch.empty(self.views.strong, *weak.shape, device=self.device)
        box = torch.empty(self.views.strong, len(weak), *crop, dtype=torch.bool, device=self.device)
        for view in range(self.views.strong):
            draws = self._draws(f"strong{view}", step, len(weak))
            strong[view] = recolour(weak, self.protocol.strong, draws) if self.views.recolour else weak
            box[view] = draw_boxes(self._draws(f"box{view}", step, len(weak)), crop, self.views.mix).to(self.device)
        return weak, strong, box, tags > 0

    def __call__(
        self, labelled: tuple[Tensor, Tensor, Tensor], unlabelled: tuple[Tensor, Tensor] | None, step: int
    ) -> Batch:
        """The batch of a step.

        Args:
            labelled: image, label, size as in `labelled`.
            unlabelled: image, size as in `unlabelled`; None = no unlabelled images.
            step: training step.
        """
        image, label = self.labelled(*labelled, step)
        if unlabelled is None:
            none = torch.zeros((0, 3, *self.protocol.crop), dtype=torch.uint8)
            unlabelled = none, torch.zeros((0, 2), dtype=torch.int64)
        weak, strong, box, valid = self.unlabelled(*unlabelled, step)
        return Batch(image=image, label=label, weak=weak, strong=strong, box=box, valid=valid)
