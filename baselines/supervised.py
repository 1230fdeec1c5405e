"""Supervised training on the labelled images alone: what every other method is measured against."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from rc2l_bench.config import Protocol
from rc2l_bench.losses.pixel_losses import SUPERVISED
from rc2l_bench.methods.contract import Method, MethodConfig
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.types import Batch


class Supervised(Method):
    """PixelNet and the protocol's supervised loss."""

    unlabelled: ClassVar[bool] = False

    def __init__(self, config: MethodConfig, protocol: Protocol, num_classes: int) -> None:
        super().__init__(config, protocol, num_classes)
        self.student = PixelNet(protocol.net, num_classes)
        self.supervised_loss = SUPERVISED[protocol.supervised_loss]

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """One loss, on the labelled images."""
        return {"supervised": self.supervised_loss(self.student(batch.image), batch.label)}

    def deployed(self) -> nn.Module:
        """The trained network."""
        return self.student
