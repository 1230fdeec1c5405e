"""FixMatch for pixels: confident labels of the weak view teach the strong view.

Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", NeurIPS 2020, equations
3 and 4; for segmentation as the baseline of UniMatch (Yang et al., CVPR 2023) has it: the strong view is mixed with
CutMix, and unconfident pixels count with a loss of 0.

Departures from that baseline: all labels come from the network in eval mode (released: those of the CutMix partner do,
those of the image itself come from a pass in train mode together with the labelled images); the CutMix partner is the
other image of the pair instead of an image of a second loader; labelled and strong images pass the network together;
the sum of the losses is not halved; the ratio of CutMix boxes is log-uniform, see
`rc2l_bench.data.augment.draw_boxes`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from rc2l_bench.config import OneView, Protocol, Share
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.pixel_losses import SUPERVISED, cross_entropy, pseudo_label
from rc2l_bench.methods.contract import LateConfig, Method, MethodConfig
from rc2l_bench.methods.pixel_means import PixelMeans
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.types import IGNORE, Batch


class FixMatchConfig(LateConfig):
    """The numbers of FixMatch."""

    views: OneView
    threshold: Share
    """Least probability of a pseudo-label."""


class FixMatch(PixelMeans, Method):
    """PixelNet, weak-to-strong consistency with hard labels."""

    Config: ClassVar[type[MethodConfig]] = FixMatchConfig
    config: FixMatchConfig

    def __init__(self, config: FixMatchConfig, protocol: Protocol, num_classes: int) -> None:
        super().__init__(config, protocol, num_classes)
        self.student = PixelNet(protocol.net, num_classes)
        self.supervised_loss = SUPERVISED[protocol.supervised_loss]

    @torch.no_grad()
    def label(self, batch: Batch) -> Tensor:
        """Make pseudo-labels (U, H, W) of the weak views by the network in eval mode."""
        training = self.student.training
        self.student.eval()
        label = pseudo_label(self.student(batch.weak), batch.valid, self.config.threshold)
        self.student.train(training)
        return label

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Compute the supervised loss, and the cross-entropy of the mixed strong view with the mixed labels."""
        if self.config.only_supervised(batch, progress):
            supervised = self.supervised_loss(self.student(batch.image), batch.label)
            return {"supervised": supervised, "strong": torch.zeros_like(supervised)}
        box = batch.box[0]
        label, valid = paste(self.label(batch), box), paste(batch.valid, box)
        logits = self.student(torch.cat([batch.image, paste(batch.strong[0], box)]))
        labelled, strong = logits.split([len(batch.image), len(batch.weak)])
        return {
            "supervised": self.supervised_loss(labelled, batch.label),
            "strong": self.config.weight * cross_entropy(strong, label, over=valid),
        }

    def pixels(self, batch: Batch) -> dict[str, Tensor]:
        """Count the labelled pixels, and those of mixed images that are valid."""
        return {"supervised": (batch.label != IGNORE).sum(), "strong": paste(batch.valid, batch.box[0]).sum()}

    def deployed(self) -> nn.Module:
        """Return the trained network."""
        return self.student
