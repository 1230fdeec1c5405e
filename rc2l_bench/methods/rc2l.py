"""RC²L: region-level contrastive and consistency learning (Zhang et al., IJCAI 2022, arXiv 2204.13314).

Equations 1 to 10 as printed. What the paper leaves open is a field of `RC2LConfig` that says so; docs/METHOD.md has it
choice by choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, cast

import torch
from pydantic import model_validator
from torch import Tensor

from rc2l_bench.config import Model, NonNegative, Positive, Protocol, Share
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.matching import Match, Matching, SetLossConfig, layer_costs
from rc2l_bench.losses.pseudo_regions import merge_classes, teacher_regions
from rc2l_bench.losses.region_losses import (
    Overlap,
    Reduction,
    Union,
    add_up,
    mask_consistency,
    members,
    region_class_consistency,
    region_feature_contrast,
    region_mask_contrast,
    unite,
)
from rc2l_bench.losses.regions import Regions, bounded, in_float32, mask_probability, of_query
from rc2l_bench.losses.set_loss import matched_loss, set_loss, truth_costs
from rc2l_bench.methods.contract import MethodConfig, TaughtConfig, TaughtMethod, Teacher
from rc2l_bench.nets.region_net import Prediction, RegionNet
from rc2l_bench.types import Batch


class LossWeights(Model):
    """β of equation 1."""

    rcc: NonNegative
    smc: NonNegative
    rmc: NonNegative
    rfc: NonNegative
    mask: NonNegative
    """Of the consistency of the matched queries' own masks, L_mask(m_σ(i), M_i). Not in equation 1: the paper's
    ablation starts from it, and what it is there is open."""


class MaskLossWeights(Model):
    """L_mask of equation 10, "MaskFormer's linear combination". Which weights it has inside SMC is open."""

    focal: NonNegative
    dice: NonNegative


class RC2LConfig(TaughtConfig):
    """The numbers of RC²L. Of the fields of `TaughtConfig` the paper says neither the decay nor who is scored."""

    set_loss: SetLossConfig
    """L_label, and the costs of matching σ; MaskFormer's."""
    alpha: NonNegative
    """Of all losses on unlabelled images; the paper has 2 on half of VOC Train, 1 on a quarter of VOC Aug. 0 = the run
    is `baselines/supervised_region`."""
    weights: LossWeights
    mask_temperature: Positive
    """τ_m of RMC."""
    feature_temperature: Positive
    """τ_f of RFC."""
    overlap: Overlap
    """d of RMC; open, see `region_mask_contrast`."""
    teacher_view: Literal["weak", "same", "other"]
    """What the teacher sees. The paper's weak view has colours; whether those of the strong view before it is mixed
    (`same`) or of a draw of their own (`other`, the first of views.strong, which the student then does not see) is
    open. `weak` has none."""
    regions: Literal["class", "query"]
    """How the teacher's output becomes segments, open: one per class of its semantic map, or one per sure query."""
    threshold: Share
    """Confidence below which a pixel (`class`) or a query (`query`) is not used; open, 0 = all are."""
    union: Union
    """How SMC merges masks that overlap; open, see `unite`."""
    mask_loss: MaskLossWeights
    over_regions: Reduction
    """Terms of an image are summed over its regions, as printed, or averaged. Whether sums are divided by the batch is
    open; they are."""
    warm_up: Share
    """Share of the budget that is spent on labelled images alone; open, 0 = none."""
    ramp: Share
    """Share of the budget in which α then rises linearly from 0; open, 0 = at once."""
    buffers: Literal["average", "copy"]
    """The teacher's batch-norm statistics; open."""

    @model_validator(mode="after")
    def _views_suffice(self) -> RC2LConfig:
        if self.teacher_view == "other" and self.views.strong < 2:
            raise ValueError("teacher_view: 'other' needs views.strong of at least 2: the first is the teacher's")
        if self.views.strong < 1:
            raise ValueError("views.strong: RC2L needs at least 1")
        return self


class RC2L(TaughtMethod):
    """A student and its teacher, which agree on regions."""

    Config: ClassVar[type[MethodConfig]] = RC2LConfig
    switched_off: ClassVar[Mapping[str, float]] = {"alpha": 0.0}
    config: RC2LConfig
    student: RegionNet

    def __init__(self, config: RC2LConfig, protocol: Protocol, num_classes: int) -> None:
        super().__init__(config, protocol, num_classes)
        self.student = RegionNet(protocol.net, num_classes)
        self.teacher = Teacher(self.student, config.decay, config.buffers)

    def ramp(self, progress: float) -> float:
        """Give the share of α at a moment: 0 in the warm-up, then linearly up to 1."""
        spent = progress - self.config.warm_up
        return float(min(1.0, spent / self.config.ramp if self.config.ramp else 1.0)) if spent >= 0 else 0.0

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """L = L_label + α · (β₁ RCC + β₂ SMC + β₃ RMC + β₄ RFC), equation 1."""
        alpha = self.config.alpha * self.ramp(progress)
        weights = {name: alpha * value for name, value in self.config.weights.model_dump().items()}
        if not (len(batch.weak) and any(weights.values())):
            supervised = set_loss(self.student.segment(batch.image), batch.label, self.config.set_loss)
            return {"supervised": supervised, **dict.fromkeys(weights, supervised.new_zeros(()))}
        weak, strong, box = self.views(batch)
        with torch.no_grad():
            regions = self.segments(weak, batch.valid, box)
        labelled = len(batch.image)
        # One pass for both, so that labelled and unlabelled images share the statistics of batch norm.
        student = self.student.segment(torch.cat([batch.image, strong]))
        seen, mixed = student.rows(slice(labelled)), student.rows(slice(labelled, None))
        matching = Matching(truth_costs(seen, batch.label, self.config.set_loss), (regions, self.costs(mixed, regions)))
        # Given to the device in this order, so that it has work while the host matches: masks need no match, the terms
        # need the few of one layer, and the truth is matched in all layers.
        mask = in_float32(mixed.mask)()
        terms = self.terms(mixed, mask, matching.solve(1))
        unlabelled = {name: weight * terms[name]() for name, weight in weights.items() if weight}
        supervised = matched_loss(seen, matching.solve(0), self.config.set_loss)
        zero = supervised.new_zeros(())
        return {"supervised": supervised, **{name: unlabelled.get(name, zero) for name in weights}}

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Choose the teacher's images (U, …), the student's mixed images (V·U, …), and their boxes (V, U, …)."""
        strong, box = batch.strong, batch.box
        weak = batch.weak if self.config.teacher_view == "weak" else strong[0]
        if self.config.teacher_view == "other":
            strong, box = strong[1:], box[1:]
        return weak, paste(strong.flatten(0, 1), box.flatten(0, 1)), box

    def segments(self, weak: Tensor, valid: Tensor, box: Tensor) -> Regions:
        """Segment weak views with the teacher and mix what it finds like the strong views: the pseudo-label z^t."""
        seen = cast("RegionNet", self.teacher.net).segment(weak)
        return teacher_regions(seen, valid, box, self.config.regions, self.config.threshold)

    @in_float32
    def costs(self, student: Prediction, regions: Regions) -> Tensor:
        """Compute the costs of the teacher's regions in the last layer, by which the truth's regions match, too."""
        return layer_costs(student, regions, self.config.set_loss, [-1])

    @in_float32
    def terms(self, student: Prediction, mask: Tensor, found: Match) -> dict[str, Callable[[], Tensor]]:
        """Prepare the losses of the last decoder layer on strong views, each computed when it is called.

        Args:
            student: what it sees in the strong views.
            mask: (B, Q, h, w) its mask logits there.
            found: the teacher's regions and σ.
        """
        config, regions, match = self.config, found.regions, found.query[:, 0]
        logits = bounded(student.logits[:, -1])
        mine, target = bounded(of_query(mask, match)), regions.mask()
        m = mask_probability(mine, regions.valid)
        both = (config.mask_loss.focal, config.mask_loss.dice)

        def smc() -> Tensor:
            merged, count = merge_classes(regions, found.classes)
            member = members(logits, regions.label, merged.label, match)
            union = unite(mask, logits, member, merged.label, config.union)
            return add_up(mask_consistency(union, merged.mask(), regions.valid, *both), count, config.over_regions)

        def each(value: Tensor) -> Tensor:
            return add_up(value, match >= 0, config.over_regions)

        return {
            "rcc": lambda: each(region_class_consistency(logits, regions.label, match)),
            "smc": smc,
            "rmc": lambda: each(region_mask_contrast(m, target, match, config.mask_temperature, config.overlap)),
            "rfc": lambda: each(
                region_feature_contrast(student.features, m, target, match, config.feature_temperature)
            ),
            "mask": lambda: each(mask_consistency(mine, target, regions.valid, *both)),
        }
