"""Supervised training on the labelled images alone: the reference of every other method."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from rc2l_bench.config import Protocol
from rc2l_bench.losses.pixel_losses import SUPERVISED
from rc2l_bench.methods.contract import Method, MethodConfig
from rc2l_bench.methods.pixel_means import PixelMeans
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.types import IGNORE, Batch


class Supervised(PixelMeans, Method):
    """PixelNet and the protocol's supervised loss."""

    # No unlabelled image is loaded or warped for nothing, so time and memory are those of supervised training.
    unlabelled: ClassVar[bool] = False

    def __init__(self, config: MethodConfig, protocol: Protocol, num_classes: int) -> None:
        super().__init__(config, protocol, num_classes)
        self.student = PixelNet(protocol.net, num_classes)
        self.supervised_loss = SUPERVISED[protocol.supervised_loss]

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Compute the one loss, on the labelled images."""
        return {"supervised": self.supervised_loss(self.student(batch.image), batch.label)}

    def pixels(self, batch: Batch) -> dict[str, Tensor]:
        """Count the labelled pixels."""
        return {"supervised": (batch.label != IGNORE).sum()}

    def deployed(self) -> nn.Module:
        """Return the trained network."""
        return self.student
