"""RegionNet on the labelled images alone: what a region-level method owes to its network, not to unlabelled images."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from rc2l_bench.config import Protocol
from rc2l_bench.losses.matching import SetLossConfig
from rc2l_bench.losses.set_loss import set_loss
from rc2l_bench.methods.contract import Method, MethodConfig
from rc2l_bench.nets.region_net import RegionNet
from rc2l_bench.types import Batch


class SupervisedRegionConfig(MethodConfig):
    """The numbers of MaskFormer's loss."""

    set_loss: SetLossConfig


class SupervisedRegion(Method):
    """RegionNet and MaskFormer's set loss."""

    Config: ClassVar[type[MethodConfig]] = SupervisedRegionConfig
    unlabelled: ClassVar[bool] = False
    config: SupervisedRegionConfig

    def __init__(self, config: SupervisedRegionConfig, protocol: Protocol, num_classes: int) -> None:
        super().__init__(config, protocol, num_classes)
        self.student = RegionNet(protocol.net, num_classes)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """One loss, on the labelled images."""
        return {"supervised": set_loss(self.student.segment(batch.image), batch.label, self.config.set_loss)}

    def deployed(self) -> nn.Module:
        """The trained network."""
        return self.student
