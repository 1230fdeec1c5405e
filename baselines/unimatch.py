"""UniMatch: labels of the weak view teach two strong views and a view with perturbed features.

Yang et al., "Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation", CVPR 2023
(first version).

Departures from the released code: the CutMix partner is the other image of the pair instead of an image of a second
loader, so no extra pass labels the partner; labelled, weak and strong images pass the network together, so batch norm
sees them as one batch (released: two groups); the ratio of CutMix boxes is log-uniform, see
`rc2l_bench.data.augment.draw_boxes`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rc2l_bench.config import NonNegative, Protocol, Share, TwoViews
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.pixel_losses import SUPERVISED, cross_entropy, pseudo_label
from rc2l_bench.methods.contract import LateConfig, Method, MethodConfig
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.types import Batch


class UniMatchConfig(LateConfig):
    """The numbers of UniMatch."""

    views: TwoViews
    strong_weight: NonNegative
    """Of each strong view."""
    feature_weight: NonNegative
    """Of the view with perturbed features."""
    halved: bool
    """Divides the sum of all losses by two, as published; without effect when there is no unlabelled loss."""
    threshold: Share
    """Least probability of a pseudo-label."""
    dropout: Share
    """Share of the feature channels that are switched off."""


class UniMatch(Method):
    """PixelNet, three streams from weak to strong."""

    Config: ClassVar[type[MethodConfig]] = UniMatchConfig
    config: UniMatchConfig

    def __init__(self, config: UniMatchConfig, protocol: Protocol, num_classes: int) -> None:
        super().__init__(config, protocol, num_classes)
        self.student = PixelNet(protocol.net, num_classes)
        self.supervised_loss = SUPERVISED[protocol.supervised_loss]

    def streams(self, batch: Batch) -> tuple[Tensor, ...]:
        """Logits (·, K, H, W) of: labelled, weak, first strong, second strong, perturbed images."""
        labelled, unlabelled = len(batch.image), len(batch.weak)
        strong = [paste(view, box) for view, box in zip(batch.strong, batch.box, strict=True)]
        maps = self.student.encode(torch.cat([batch.image, batch.weak, *strong]))
        weak = slice(labelled, labelled + unlabelled)
        perturbed = [torch.cat([x, F.dropout2d(x[weak], self.config.dropout)]) for x in maps]
        logits = self.student.classify(self.student.decode(*perturbed), batch.image.shape[-2:])
        streams: tuple[Tensor, ...] = torch.split(logits, [labelled] + [unlabelled] * 4)
        return streams

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Supervised loss, and cross-entropy of the three streams with the confident labels of the weak view."""
        if self.config.only_supervised(batch, progress):
            supervised = self.supervised_loss(self.student(batch.image), batch.label)
            none = torch.zeros_like(supervised)
            return {"supervised": supervised, "strong": none, "features": none}
        labelled, weak, first, second, perturbed = self.streams(batch)
        label = pseudo_label(weak, batch.valid, self.config.threshold)
        strong = [
            cross_entropy(logits, paste(label, box), over=paste(batch.valid, box))
            for logits, box in zip((first, second), batch.box, strict=True)
        ]
        features = cross_entropy(perturbed, label, over=batch.valid)
        scale = 0.5 if self.config.halved else 1.0
        weight = scale * self.config.weight
        return {
            "supervised": scale * self.supervised_loss(labelled, batch.label),
            "strong": weight * self.config.strong_weight * (strong[0] + strong[1]),
            "features": weight * self.config.feature_weight * features,
        }

    def deployed(self) -> nn.Module:
        """The trained network."""
        return self.student
