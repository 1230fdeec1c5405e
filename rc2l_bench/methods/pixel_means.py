"""Methods whose losses are means over pixels, so that a batch may be learnt from in parts."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from rc2l_bench.types import Batch


class PixelMeans(ABC):
    """Beside `Method`: every loss is a mean over pixels that the batch alone tells, not what a network says of it.

    Losses of parts of a batch, each weighted by its share of these pixels, then add up to the loss of the batch.
    """

    @abstractmethod
    def pixels(self, batch: Batch) -> dict[str, Tensor]:
        """Count the pixels that each loss is a mean over.

        Args:
            batch: a whole one, or some of its images.

        Returns:
            int64 scalars, by the names of `Method.losses`.
        """
