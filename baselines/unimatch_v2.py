"""UniMatch V2: a teacher's labels teach two strong views, each of which has the feature channels that the other lacks.

Yang et al., "UniMatch V2: Pushing the Limit of Semi-Supervised Semantic Segmentation", TPAMI 2025 (arXiv 2410.10777).
Colours, CutMix and the dropout of channels lie in one stream, where UniMatch has one for features of its own.

Departures from the released code: the CutMix partner is the other image of the pair instead of the image at the
mirrored place in the batch; labelled and strong images pass the network together (released: two passes; without batch
norm, as in its DPT head, that is the same); where the levels of a backbone differ in their number of channels, which
those of its vision transformers do not, levels of equal width share a mask and others have one of their own; the ratio
of CutMix boxes is log-uniform, see `rc2l_bench.data.augment.draw_boxes`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from rc2l_bench.config import NonNegative, Protocol, Share, TwoViews
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.pixel_losses import SUPERVISED, cross_entropy, pseudo_label
from rc2l_bench.methods.contract import LateConfig, MethodConfig, TaughtConfig, TaughtMethod, Teacher
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.types import Batch


class UniMatchV2Config(LateConfig, TaughtConfig):
    """The numbers of UniMatch V2."""

    views: TwoViews
    strong_weight: NonNegative
    """Of each strong view."""
    halved: bool
    """Divides the sum of all losses by two, as published; without effect when there is no unlabelled loss."""
    threshold: Share
    """Least probability of a pseudo-label."""
    dropped: Share
    """Share of the unlabelled images whose views have half of their channels each; the other images keep all."""


def share_channels(maps: Sequence[Tensor], dropped: float) -> list[Tensor]:
    """Give each channel of an image to one of its two views, doubled, and take it from the other.

    Every channel goes to either view with probability 0.5, so that a map keeps its mean (the paper's complementary
    dropout).

    Args:
        maps: levels (2U, C, h, w) of a backbone, first view first; C may differ.
        dropped: share of the U images that this is done to, drawn at random; the number is rounded up.

    Returns:
        Tensors like `maps`. Maps with the same C have the same channels.
    """
    images, device = len(maps[0]) // 2, maps[0].device
    # The margin keeps a product such as 0.7 * 10 from being rounded up to the next image.
    whole = torch.rand(images, device=device).argsort() >= math.ceil(images * dropped - 1e-6)
    factors: dict[int, Tensor] = {}
    for channels in sorted({x.shape[1] for x in maps}):
        first = 2.0 * (torch.rand(images, channels, device=device) < 0.5)
        both = torch.stack([first, 2.0 - first]).masked_fill(whole[:, None], 1.0)
        factors[channels] = both.flatten(0, 1)[..., None, None]
    return [x * factors[x.shape[1]].to(x.dtype) for x in maps]


class UniMatchV2(TaughtMethod):
    """PixelNet and its moving average, two strong views with complementary channels."""

    Config: ClassVar[type[MethodConfig]] = UniMatchV2Config
    config: UniMatchV2Config
    student: PixelNet

    def __init__(self, config: UniMatchV2Config, protocol: Protocol, num_classes: int) -> None:
        super().__init__(config, protocol, num_classes)
        self.student = PixelNet(protocol.net, num_classes)
        self.teacher = Teacher(self.student, config.decay, "average")
        self.supervised_loss = SUPERVISED[protocol.supervised_loss]

    def streams(self, batch: Batch) -> tuple[Tensor, ...]:
        """Logits (·, K, H, W) of the labelled images and of the mixed first and second strong views."""
        labelled, unlabelled = len(batch.image), len(batch.weak)
        strong = [paste(view, box) for view, box in zip(batch.strong, batch.box, strict=True)]
        maps = self.student.encode(torch.cat([batch.image, *strong]))
        shared = share_channels([x[labelled:] for x in maps], self.config.dropped)
        mixed = [torch.cat([x[:labelled], y]) for x, y in zip(maps, shared, strict=True)]
        logits = self.student.classify(self.student.decode(*mixed), batch.image.shape[-2:])
        streams: tuple[Tensor, ...] = torch.split(logits, [labelled, unlabelled, unlabelled])
        return streams

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Supervised loss, and cross-entropy of both strong views with the teacher's confident labels."""
        if self.config.only_supervised(batch, progress):
            supervised = self.supervised_loss(self.student(batch.image), batch.label)
            return {"supervised": supervised, "strong": torch.zeros_like(supervised)}
        label = pseudo_label(self.teacher(batch.weak), batch.valid, self.config.threshold)
        labelled, *strong = self.streams(batch)
        terms = [
            cross_entropy(logits, paste(label, box), over=paste(batch.valid, box))
            for logits, box in zip(strong, batch.box, strict=True)
        ]
        scale = 0.5 if self.config.halved else 1.0
        return {
            "supervised": scale * self.supervised_loss(labelled, batch.label),
            "strong": scale * self.config.weight * self.config.strong_weight * (terms[0] + terms[1]),
        }
