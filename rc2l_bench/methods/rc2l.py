"""RC²L: region-level contrastive and consistency learning (Zhang et al., IJCAI 2022, arXiv 2204.13314).

docs/METHOD.md says, choice by choice, what the paper states and what is our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor

from rc2l_bench.config import Model, NonNegative, Positive, Protocol, Share
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.matching import SetLossConfig, match_regions
from rc2l_bench.losses.region_losses import (
    of_query,
    region_class_consistency,
    region_feature_contrast,
    region_mask_contrast,
    semantic_mask_consistency,
    set_loss,
)
from rc2l_bench.losses.regions import Target, bounded, mask_probability, pool, read_target, semantic_map
from rc2l_bench.methods.contract import MethodConfig, TaughtConfig, TaughtMethod, Teacher
from rc2l_bench.nets.region_net import Prediction, RegionNet
from rc2l_bench.types import Batch


class Weights(Model):
    """w₁ to w₄."""

    rmc: NonNegative
    rfc: NonNegative
    rcc: NonNegative
    smc: NonNegative


class RC2LConfig(TaughtConfig):
    """The numbers of RC²L."""

    set_loss: SetLossConfig
    warm_up: Share
    """Share of the budget that is spent on labelled images alone."""
    ramp: Share
    """Share of the budget in which w then rises linearly from 0 to 1; 0 = at once."""
    regions: Literal["class", "query"]
    """The teacher's regions: one per class present, or one per confident query."""
    threshold: Share
    """Confidence below which a pixel (`class`) or a query (`query`) is not used."""
    weights: Weights
    mask_temperature: Positive
    """τ_m of RMC."""
    feature_temperature: Positive
    """τ_f of RFC."""
    scope: Literal["image", "batch"]
    """Where RFC looks for negatives, and for positives of the same class."""
    positives: Literal["matched", "class"]
    """RFC's positives: the matched region, or every region of its class in scope."""
    no_object: NonNegative
    """Weight in RCC of a query that no region was given to; 0 = such queries are left alone."""
    targets: Literal["soft", "hard"]
    """RCC and SMC compare with the teacher's distributions, or with its decisions."""
    smc: Literal["dice", "bce", "mse"]
    """How SMC compares two semantic maps."""
    buffers: Literal["average", "copy"]
    """The teacher's batch-norm statistics."""


class RC2L(TaughtMethod):
    """A student and its teacher, which agree on regions."""

    Config: ClassVar[type[MethodConfig]] = RC2LConfig
    config: RC2LConfig
    student: RegionNet

    def __init__(self, config: RC2LConfig, protocol: Protocol, num_classes: int) -> None:
        super().__init__(config, protocol, num_classes)
        self.student = RegionNet(protocol.net, num_classes)
        self.teacher = Teacher(self.student, config.decay, config.buffers)

    def ramp(self, progress: float) -> float:
        """W: 0 in the warm-up, then linearly up to 1."""
        spent = progress - self.config.warm_up
        return float(min(1.0, spent / self.config.ramp if self.config.ramp else 1.0)) if spent >= 0 else 0.0

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """L = L_sup + w · (w₁ RMC + w₂ RFC + w₃ RCC + w₄ SMC)."""
        weights = {name: self.ramp(progress) * value for name, value in self.config.weights.model_dump().items()}
        labelled, mixed = len(batch.image), batch.box.shape[:2].numel()
        if not (mixed and any(weights.values())):
            supervised = set_loss(self.student.segment(batch.image), batch.label, self.config.set_loss)
            return {"supervised": supervised, **dict.fromkeys(weights, supervised.new_zeros(()))}
        with torch.no_grad():
            target = self.target(batch)
            strong = paste(batch.strong.flatten(0, 1), batch.box.flatten(0, 1))
        student = self.student.segment(torch.cat([batch.image, strong]))
        supervised = set_loss(student.rows(slice(labelled)), batch.label, self.config.set_loss)
        student = student.rows(slice(labelled, None))
        match = match_regions(student, target.regions, self.config.set_loss, [-1])[:, 0]
        terms = self.terms(student, target, match)
        zero = supervised.new_zeros(())
        return {"supervised": supervised, **{name: w * terms[name]() if w else zero for name, w in weights.items()}}

    def target(self, batch: Batch) -> Target:
        """The teacher's regions of the weak views, cut and pasted like the strong views."""
        seen = cast("RegionNet", self.teacher.net).segment(batch.weak)
        config = self.config
        return read_target(seen, batch.valid, batch.box, config.regions, config.threshold, config.targets)

    def terms(self, student: Prediction, target: Target, match: Tensor) -> dict[str, Callable[[], Tensor]]:
        """The four losses of the strong views, each computed when it is called; `match` is σ, (B, R)."""
        config, regions = self.config, target.regions
        logits = bounded(student.logits[:, -1])
        mask, target_mask = mask_probability(student.mask(), regions.valid), regions.mask().float()
        return {
            "rmc": lambda: region_mask_contrast(mask, target_mask, match, config.mask_temperature),
            "rfc": lambda: region_feature_contrast(
                of_query(pool(student.features, mask), match),
                pool(target.features, target_mask),
                regions.label,
                regions.present,
                match,
                config.feature_temperature,
                config.scope,
                config.positives,
            ),
            "rcc": lambda: region_class_consistency(logits, regions.probability, match, config.no_object),
            "smc": lambda: semantic_mask_consistency(
                semantic_map(logits, mask), target.semantic, regions.classes(), regions.valid, config.smc
            ),
        }
