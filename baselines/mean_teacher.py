"""Mean Teacher for pixels: the student's strong view agrees with the averaged teacher's weak view.

Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017: squared error between class distributions,
a weight that ramps up, a teacher that is the moving average of the student. With views.mix.probability above 0 it is
the CutMix variant of French et al., "Semi-supervised semantic segmentation needs strong, varied perturbations", BMVC
2020.

Departures: the student's perturbation is the protocol's strong view instead of noise and shifts; the squared error is
summed over the classes, not averaged, so that its weight does not depend on their number; the teacher is in eval mode.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from rc2l_bench.config import NonNegative, OneView, Protocol, Share
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.pixel_losses import SUPERVISED, squared_error
from rc2l_bench.methods.contract import MethodConfig, TaughtConfig, TaughtMethod, Teacher
from rc2l_bench.methods.pixel_means import PixelMeans
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.types import IGNORE, Batch


class MeanTeacherConfig(TaughtConfig):
    """Numbers of Mean Teacher."""

    views: OneView
    weight: NonNegative
    """Of the consistency loss after the ramp; 0 = supervised training."""
    ramp: Share
    """Share of the budget over which the weight rises as exp(−5 (1 − t)²)."""


def ramp_up(progress: float, ramp: float) -> float:
    """Compute the weight of the consistency loss as a share of its final one.

    exp(−5 (1 − t)²), t = progress / ramp (Tarvainen & Valpola, appendix B), and 1 once the ramp is over.

    Args:
        progress: share of the budget that is spent, in [0, 1).
        ramp: share of the budget over which the weight rises, in [0, 1]; 0 = the whole weight at once.
    """
    return math.exp(-5 * (1 - progress / ramp) ** 2) if progress < ramp else 1.0


class MeanTeacher(PixelMeans, TaughtMethod):
    """PixelNet and its moving average, soft consistency."""

    Config: ClassVar[type[MethodConfig]] = MeanTeacherConfig
    config: MeanTeacherConfig

    def __init__(self, config: MeanTeacherConfig, protocol: Protocol, num_classes: int) -> None:
        super().__init__(config, protocol, num_classes)
        self.student = PixelNet(protocol.net, num_classes)
        self.teacher = Teacher(self.student, config.decay, "average")
        self.supervised_loss = SUPERVISED[protocol.supervised_loss]

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Compute the supervised loss, and the squared distance of the class distributions on the strong view."""
        # The teacher is not even asked: without a weight this is supervised training, to the bit and in its time.
        if not self.config.weight or not len(batch.weak):
            supervised = self.supervised_loss(self.student(batch.image), batch.label)
            return {"supervised": supervised, "consistency": torch.zeros_like(supervised)}
        box = batch.box[0]
        # The target is made of the unmixed images and then mixed like them: of a mixed image the teacher would see
        # edges that are in neither picture.
        target = paste(self.teacher(batch.weak).float().softmax(1), box)
        # One pass, so that batch norm sees labelled and strong images as one batch, as with every method here.
        logits = self.student(torch.cat([batch.image, paste(batch.strong[0], box)]))
        labelled, strong = logits.split([len(batch.image), len(batch.weak)])
        weight = self.config.weight * ramp_up(progress, self.config.ramp)
        return {
            "supervised": self.supervised_loss(labelled, batch.label),
            "consistency": weight * squared_error(strong, target, paste(batch.valid, box)),
        }

    def pixels(self, batch: Batch) -> dict[str, Tensor]:
        """Count the labelled pixels, and those of mixed images that are valid."""
        return {"supervised": (batch.label != IGNORE).sum(), "consistency": paste(batch.valid, batch.box[0]).sum()}
