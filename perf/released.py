"""The way from files to views that the released code of UniMatch takes, written anew from its description.

Yang et al., Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation, CVPR 2023: in the loader,
Pillow resizes the image by 0.5 to 2, pads and crops it and flips half of them; each strong view gets torchvision's
ColorJitter for 4 of 5, grey for 1 of 5, a Gaussian blur for 1 of 2, and a CutMix box for 1 of 2; ToTensor, Normalize.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms

Views = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Weak view, two strong views, their boxes."""


class FolderOfImages(Dataset[Views]):
    """One weak and two strong views of each file."""

    def __init__(self, files: list[Path], crop: int) -> None:
        self.files, self.crop = files, crop
        self.jitter = transforms.ColorJitter(0.5, 0.5, 0.5, 0.25)
        self.grey = transforms.RandomGrayscale(0.2)
        normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        self.finish = transforms.Compose([transforms.ToTensor(), normalise])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> Views:
        with Image.open(self.files[position]) as file:
            weak = self._frame(file.convert("RGB"))
        first, second = self._recolour(weak.copy()), self._recolour(weak.copy())
        return self.finish(weak), self.finish(first), self.finish(second), self._box(), self._box()

    def _frame(self, image: Image.Image) -> Image.Image:
        """Scale, crop and flip."""
        scale = random.uniform(0.5, 2.0)  # noqa: S311 - not a secret
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, Image.Resampling.BILINEAR)
        missing = (max(0, self.crop - size[0]), max(0, self.crop - size[1]))
        image = ImageOps.expand(image, (0, 0, *missing))
        left, top = (random.randint(0, length - self.crop) for length in image.size)  # noqa: S311
        image = image.crop((left, top, left + self.crop, top + self.crop))
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image  # noqa: S311

    def _recolour(self, image: Image.Image) -> Image.Image:
        if random.random() < 0.8:  # noqa: S311
            image = self.jitter(image)
        image = self.grey(image)
        if random.random() < 0.5:  # noqa: S311
            image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))  # noqa: S311
        return image

    def _box(self) -> Tensor:
        mask = torch.zeros(self.crop, self.crop)
        if random.random() < 0.5:  # noqa: S311
            area, ratio = random.uniform(0.02, 0.4) * self.crop**2, random.uniform(0.3, 1 / 0.3)  # noqa: S311
            height, width = (min(self.crop, int((area * r) ** 0.5)) for r in (ratio, 1 / ratio))
            top, left = random.randint(0, self.crop - height), random.randint(0, self.crop - width)  # noqa: S311
            mask[top : top + height, left : left + width] = 1
        return mask
