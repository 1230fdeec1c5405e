"""Makes a training batch of loaded windows, on the training device. All draws replay from (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from rc2l_bench.config import MixConfig, Protocol, Views
from rc2l_bench.data.colours import recolour
from rc2l_bench.data.geometry import Geometry, Window, send, validity, warp
from rc2l_bench.data.randomness import Draws
from rc2l_bench.types import Batch


def draw_boxes(draws: Draws, crop: tuple[int, int], mix: MixConfig, device: torch.device) -> Tensor:
    """Draw CutMix boxes.

    Args:
        draws: source of the random numbers, for B rows.
        crop: height and width of the images.
        mix: number, area and form of the boxes. The ratio of height to width is drawn log-uniformly, so that wide and
            tall boxes are as frequent (our choice; UniMatch draws it uniformly, and more than half are tall).
        device: where they are wanted.

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
    mixed = draws.uniform(0, 1) < mix.probability
    rows = send((y >= top[..., None]) & (y < (top + tall)[..., None]) & mixed[..., None], device)
    columns = send((x >= left[..., None]) & (x < (left + wide)[..., None]), device)
    found = torch.zeros(len(rows), height, width, dtype=torch.bool, device=device)
    for box in range(mix.boxes):
        found ^= rows[:, box, :, None] & columns[:, box, None, :]
    return found


def paste(x: Tensor, box: Tensor) -> Tensor:
    """Mix by CutMix: take what is inside the boxes from the partner, image 2i + 1 for image 2i and the other way round.

    Args:
        x: (U, C, H, W) or (U, H, W), any dtype; U even.
        box: (U, H, W) bool.

    Returns:
        A tensor like `x`.
    """
    partner = x.reshape(-1, 2, *x.shape[1:]).flip(1).reshape(x.shape)
    return torch.where(box[:, None] if x.ndim == 4 else box, partner, x)


class Augmenter:
    """Makes a `Batch` of windows; the same one for the same (seed, step)."""

    def __init__(
        self, protocol: Protocol, views: Views, seed: int, device: torch.device, rank: int = 0, world: int = 1
    ) -> None:
        """Say how to augment.

        Args:
            protocol: crop, scale, colours: the same for every method.
            views: how many strong views the method wants, and their CutMix boxes.
            seed: of the cell.
            device: where the batch is wanted.
            rank: number of this process.
            world: number of processes.
        """
        self.protocol, self.views, self.device = protocol, views, device
        self.geometry = Geometry(protocol, seed, rank, world)

    def labelled(self, windows: Sequence[Window]) -> tuple[Tensor, Tensor]:
        """Make weak views of labelled images.

        Returns:
            Image (L, 3, H, W) float in [0, 1]; label (L, H, W) int64, 255 outside the image.
        """
        crop = self.protocol.crop
        label = np.array([window.label for window in windows], np.uint8).reshape(-1, *crop)
        return warp(windows, crop, self.device), send(torch.from_numpy(label), self.device).long()

    def unlabelled(self, windows: Sequence[Window], step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Make weak and strong views of unlabelled images, boxes and validity, as in `Batch`."""
        crop, images = self.protocol.crop, len(windows)
        weak = warp(windows, crop, self.device)
        strong = torch.empty(self.views.strong, *weak.shape, device=self.device)
        box = torch.empty(self.views.strong, images, *crop, dtype=torch.bool, device=self.device)
        for view in range(self.views.strong):
            draws = self.geometry.draws(f"strong{view}", step, images)
            strong[view] = recolour(weak, self.protocol.strong, draws) if self.views.recolour else weak
            draws = self.geometry.draws(f"box{view}", step, images)
            box[view] = draw_boxes(draws, crop, self.views.mix, self.device)
        return weak, strong, box, validity(windows, crop, self.device)

    def __call__(self, labelled: Sequence[Window], unlabelled: Sequence[Window], step: int) -> Batch:
        """Make the batch of a step.

        On the CPU in one thread, whatever the rest of the process does: sums in another order give other bits, and
        loader processes, which have one thread, must make the same ones.

        Args:
            labelled: with their labels.
            unlabelled: none where a method does not look at any.
            step: training step.
        """
        with _one_thread(self.device):
            image, label = self.labelled(labelled)
            weak, strong, box, valid = self.unlabelled(unlabelled, step)
        return Batch(image=image, label=label, weak=weak, strong=strong, box=box, valid=valid)


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
