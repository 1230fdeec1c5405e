"""Images and draws that several tests of augmentation share."""

from __future__ import annotations

import numpy as np
import tiny_data
import torch
from torch import Tensor

from rc2l_bench.data.augment import Augmenter
from rc2l_bench.data.geometry import Geometry, Window, cut
from rc2l_bench.data.randomness import Draws
from rc2l_bench.types import Batch

CPU = torch.device("cpu")
SIZES = ((40, 48), (33, 41), (20, 20), (40, 30))

Picture = tuple[np.ndarray, np.ndarray]


def picture(height: int = 40, width: int = 48, seed: int = 0) -> Picture:
    """Image (H, W, 3) and mask (H, W) with classes 0, 3, 7 and void."""
    rng = np.random.default_rng([seed, height, width])
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.choice(np.array([0, 3, 7, 255], np.uint8), (height, width))


def pictures(*sizes: tuple[int, int]) -> list[Picture]:
    return [picture(*size, seed=number) for number, size in enumerate(sizes)]


def draws(images: int = 1, seed: int = 0, step: int = 0) -> Draws:
    return Draws(seed, "test", step, images, slice(0, images))


def windows(geometry: Geometry, stream: str, found: list[Picture], step: int = 0) -> list[Window]:
    size = torch.tensor([mask.shape for _, mask in found]).view(-1, 2)
    frames = geometry.frames(stream, step, size)
    return [cut("x", frame, *one) for frame, one in zip(frames, found, strict=True)]


def augmenter(seed: int = 0, views: int = 2, rank: int = 0, world: int = 1, **changes) -> Augmenter:
    return Augmenter(tiny_data.protocol(**changes), tiny_data.views(views), seed, CPU, rank, world)


def augment(tool: Augmenter, labelled: list[Picture], unlabelled: list[Picture], step: int = 0) -> Batch:
    sides = (windows(tool.geometry, "labelled", labelled, step), windows(tool.geometry, "unlabelled", unlabelled, step))
    return tool(*sides, step)


def batch(seed: int = 0, step: int = 3, views: int = 2, **changes) -> Batch:
    found = pictures(*SIZES)
    return augment(augmenter(seed, views, **changes), found, found[::-1], step)


def differ(one: Batch, other: Batch, names: tuple[str, ...] = Batch.__slots__) -> set[str]:
    return {name for name in names if not torch.equal(getattr(one, name), getattr(other, name))}


def planes(image: np.ndarray) -> Tensor:
    """(3, H, W) float in [0, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1) / 255
