"""Random numbers of augmentation: for all images of a global batch, so that the number of processes changes nothing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rc2l_bench.draws import derive


class Draws:
    """Uniform numbers for the images of one global batch, of which this process takes its rows.

    Every process draws for all images, so that the number of processes changes nothing.
    """

    def __init__(self, seed: int, stream: str, step: int, images: int, rows: slice) -> None:
        """Begin to draw.

        Args:
            seed: of the cell.
            stream: what is drawn; streams do not influence one another.
            step: training step.
            images: of the global batch.
            rows: of this process.
        """
        self.generator = torch.Generator().manual_seed(derive(seed, stream, step))
        self.images = images
        self.rows = rows

    def uniform(self, low: float, high: float, columns: int = 1) -> Tensor:
        """Draw (rows, columns) float32 on the CPU, uniform in [low, high)."""
        unit = torch.rand(self.images, columns, generator=self.generator)
        return low + (high - low) * unit[self.rows]

    def log_uniform(self, low: float, high: float, columns: int = 1) -> Tensor:
        """Draw (rows, columns) float32 on the CPU, log-uniform in [low, high)."""
        return self.uniform(math.log(low), math.log(high), columns).exp()

    def chosen(self, probability: float) -> Tensor:
        """Draw (rows,) bool on the CPU, True with a probability."""
        return (self.uniform(0, 1) < probability).flatten()
