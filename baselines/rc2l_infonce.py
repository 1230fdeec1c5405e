"""An InfoNCE reading of RC²L, made before the paper's formulas were at hand: not the paper's method.

It keeps the paper's four terms and gives each the form that is usual elsewhere: the positive stands in the denominator,
all queries are negatives, RFC compares with features of the teacher and looks into the whole batch, RCC and SMC follow
the teacher's soft outputs. docs/METHOD.md has the differences to `rc2l_bench/methods/rc2l` and what each scores.

The letters, per image: p_i and c_i are the student's mask and class logits, m_i = σ(p_i) restricted to the valid pixels
V; (y_j, M_j), j = 1..N_t, are the teacher's regions and σ(j) the query matched to region j. A mean over regions is a
mean over the matched regions of an image, then over the images that have any; 0 if none has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from rc2l_bench.config import Model, NonNegative, Positive, Protocol, Share
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.mask_loss import SMOOTH
from rc2l_bench.losses.matching import Match, Matching, SetLossConfig, layer_costs
from rc2l_bench.losses.pseudo_regions import class_regions, mix, query_regions, semantic_map
from rc2l_bench.losses.regions import Regions, bounded, in_float32, mask_probability, of_query, pool
from rc2l_bench.losses.set_loss import matched_loss, set_loss, truth_costs
from rc2l_bench.methods.contract import MethodConfig, TaughtConfig, TaughtMethod, Teacher
from rc2l_bench.nets.lattice import pick
from rc2l_bench.nets.region_net import Prediction, RegionNet
from rc2l_bench.types import Batch


class InfoNCEWeights(Model):
    """w₁ to w₄."""

    rmc: NonNegative
    rfc: NonNegative
    rcc: NonNegative
    smc: NonNegative


class RC2LInfoNCEConfig(TaughtConfig):
    """The numbers of the reading."""

    set_loss: SetLossConfig
    warm_up: Share
    """Share of the budget that is spent on labelled images alone."""
    ramp: Share
    """Share of the budget in which w then rises linearly from 0 to 1; 0 = at once."""
    regions: Literal["class", "query"]
    """The teacher's regions: one per class present, or one per confident query."""
    threshold: Share
    """Confidence below which a pixel (`class`) or a query (`query`) is not used."""
    weights: InfoNCEWeights
    mask_temperature: Positive
    """Of RMC."""
    feature_temperature: Positive
    """Of RFC."""
    no_object: NonNegative
    """Weight in RCC of a query that no region was given to; 0 = such queries are left alone."""
    buffers: Literal["average", "copy"]
    """The teacher's batch-norm statistics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a teacher says of the strong views, mixed as they are.

    Attributes:
        regions: N_t regions of every image, on the grid of the masks.
        semantic: (B, K, h, w) normalised semantic scores S̄_t.
        features: (B, D, h, w) the teacher's F_t.
    """

    regions: Regions
    semantic: Tensor
    features: Tensor


@in_float32
def read_target(
    seen: Prediction, valid: Tensor, box: Tensor, form: Literal["class", "query"], threshold: float
) -> Target:
    """Read the teacher's regions, maps and features, cut and pasted; the arguments are those of `teacher_regions`."""
    size = seen.features.shape[-2:]
    valid, box = pick(valid, seen.lattice, size), pick(box, seen.lattice, size)
    logits, mask = bounded(seen.logits[:, -1]), mask_probability(seen.mask(), valid)
    semantic = mix(semantic_map(logits, mask), box)
    if form == "class":
        regions = class_regions(semantic, mix(valid, box), threshold)
    else:
        regions = query_regions(logits, mask, valid, box, threshold)
    return Target(regions=regions, semantic=semantic, features=mix(seen.features.float(), box))


def mean_over_regions(value: Tensor, matched: Tensor) -> Tensor:
    """Average over the matched regions of every image, then over the images that have any; (B, R) -> scalar."""
    count = matched.sum(1)
    per_image = (value * matched).sum(1) / count.clamp(min=1)
    return per_image.sum() / (count > 0).sum().clamp(min=1)


def unmatched(match: Tensor, queries: int) -> Tensor:
    """Tell which of Q queries no region of (B, R) was given to, (B, Q) bool."""
    free = torch.ones(len(match), queries + 1, dtype=torch.bool, device=match.device)
    return free.scatter(-1, match.where(match >= 0, queries), False)[..., :-1]


@in_float32
def mask_contrast(mask: Tensor, target: Tensor, match: Tensor, temperature: float) -> Tensor:
    """Contrast the matched student mask, the positive, with the image's other student masks.

    mean_j −log [ exp(d(m_σ(j), M_j)/τ) / Σ_{i=1..N} exp(d(m_i, M_j)/τ) ],  d(a, b) = (2⟨a,b⟩ + ε) / (Σa + Σb + ε)

    Args:
        mask: (B, Q, h, w) m, mask probabilities, 0 outside of V.
        target: (B, R, h, w) M, bool or float.
        match: (B, R) int64, σ; -1 for regions that do not count.
        temperature: τ.
    """
    mask, target = mask.flatten(2), target.float().flatten(2)
    overlap = torch.einsum("brp,bqp->brq", target, mask)
    area = target.sum(-1)[:, :, None] + mask.sum(-1)[:, None]
    score = ((2 * overlap + SMOOTH) / (area + SMOOTH) / temperature).log_softmax(-1)
    positive = score.gather(2, match.clamp(min=0)[..., None])[..., 0]
    return mean_over_regions(-positive, match >= 0)


@in_float32
def feature_contrast(
    student: Tensor, teacher: Tensor, label: Tensor, present: Tensor, match: Tensor, temperature: float
) -> Tensor:
    """Contrast what a matched student mask sees with teacher regions of other classes in the batch of this process.

    mean_j −log [ exp(⟨s_j, t_j⟩/τ) / (exp(⟨s_j, t_j⟩/τ) + Σ_{n: y_n ≠ y_j} exp(⟨s_j, t_n⟩/τ)) ],
    s_j = MAP(F_s, m_σ(j)), t_n = MAP(F_t, M_n)

    Args:
        student: (B, R, D) s, of length 1.
        teacher: (B, R, D) t, of length 1.
        label: (B, R) int64, y.
        present: (B, R) bool; which teacher regions there are.
        match: (B, R) int64, σ; -1 for regions that do not count.
        temperature: τ.
    """
    similarity = torch.einsum("jd,nd->jn", student.flatten(0, 1), teacher.flatten(0, 1)) / temperature
    same = label.flatten()[:, None] == label.flatten()
    negatives = similarity.masked_fill(same | ~present.flatten(), -1e30).logsumexp(-1)
    loss = F.softplus(negatives - similarity.diagonal())
    return mean_over_regions(loss.view_as(match), match >= 0)


@in_float32
def class_agreement(logits: Tensor, target: Tensor, match: Tensor, no_object: float) -> Tensor:
    """Compare a matched query with the teacher's class distribution q_j of its region; the others have no object.

    [ Σ_j −⟨q_j, log softmax(c_σ(j))⟩ + w Σ_{i unmatched} −log softmax(c_i)_{K+1} ] / [ N_t + w · (N − N_t) ]

    Args:
        logits: (B, Q, K + 1) c.
        target: (B, R, K) q, sums to 1.
        match: (B, R) int64, σ; -1 for regions that do not count.
        no_object: w, weight of an unmatched query.
    """
    log_prob = bounded(logits).log_softmax(-1)
    matched, free = match >= 0, unmatched(match, logits.shape[1])
    agreement = -(target * of_query(log_prob, match)[..., :-1]).sum(-1)
    total = (agreement * matched).sum(1) - no_object * (log_prob[..., -1] * free).sum(1)
    weight = matched.sum(1) + no_object * free.sum(1)
    return mean_over_regions((total / weight.clamp(min=1))[:, None], matched.any(1, keepdim=True))


@in_float32
def semantic_agreement(student: Tensor, teacher: Tensor, classes: Tensor, valid: Tensor) -> Tensor:
    """Compare semantic maps by dice, over the classes that the teacher has a region of: mean_k 1 − d(S̄_s(k), S̄_t(k)).

    Args:
        student: (B, K, h, w) S̄_s, in [0, 1].
        teacher: (B, K, h, w) S̄_t, in [0, 1].
        classes: (B, K) bool; classes of the teacher's regions.
        valid: (B, h, w) bool, V.
    """
    keep = valid.flatten(1)[:, None].float()
    student, teacher = student.flatten(2) * keep, teacher.flatten(2) * keep
    overlap, area = (student * teacher).sum(-1), student.sum(-1) + teacher.sum(-1)
    return mean_over_regions(1 - (2 * overlap + SMOOTH) / (area + SMOOTH), classes)


class RC2LInfoNCE(TaughtMethod):
    """A student and its teacher, which agree on regions by InfoNCE."""

    Config: ClassVar[type[MethodConfig]] = RC2LInfoNCEConfig
    switched_off: ClassVar[Mapping[str, float]] = dict.fromkeys(
        ("weights.rmc", "weights.rfc", "weights.rcc", "weights.smc"), 0.0
    )
    config: RC2LInfoNCEConfig
    student: RegionNet

    def __init__(self, config: RC2LInfoNCEConfig, protocol: Protocol, num_classes: int) -> None:
        super().__init__(config, protocol, num_classes)
        self.student = RegionNet(protocol.net, num_classes)
        self.teacher = Teacher(self.student, config.decay, config.buffers)

    def ramp(self, progress: float) -> float:
        """Give w: 0 in the warm-up, then linearly up to 1."""
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
        seen, student = student.rows(slice(labelled)), student.rows(slice(labelled, None))
        matching = Matching(
            truth_costs(seen, batch.label, self.config.set_loss),
            (target.regions, layer_costs(student, target.regions, self.config.set_loss, [-1])),
        )
        # Given to the device in this order, so that it has work while the host matches: masks need no match, the terms
        # need the few of one layer, and the truth is matched in all layers.
        mask = mask_probability(student.mask(), target.regions.valid)
        terms = self.terms(student, mask, target, matching.solve(1))
        unlabelled = {name: weight * terms[name]() for name, weight in weights.items() if weight}
        supervised = matched_loss(seen, matching.solve(0), self.config.set_loss)
        zero = supervised.new_zeros(())
        return {"supervised": supervised, **{name: unlabelled.get(name, zero) for name in weights}}

    def target(self, batch: Batch) -> Target:
        """Segment the weak views with the teacher and mix what it finds like the strong views."""
        seen = cast("RegionNet", self.teacher.net).segment(batch.weak)
        return read_target(seen, batch.valid, batch.box, self.config.regions, self.config.threshold)

    def terms(self, student: Prediction, mask: Tensor, target: Target, found: Match) -> dict[str, Callable[[], Tensor]]:
        """Prepare the four losses of the strong views, each computed when it is called.

        Args:
            student: what it sees.
            mask: (B, Q, h, w) its mask probabilities.
            target: maps and features of the teacher.
            found: the teacher's regions and σ.
        """
        config, regions, match = self.config, found.regions, found.query[:, 0]
        logits, target_mask = bounded(student.logits[:, -1]), regions.mask().float()
        return {
            "rmc": lambda: mask_contrast(mask, target_mask, match, config.mask_temperature),
            "rfc": lambda: feature_contrast(
                of_query(pool(student.features, mask), match),
                pool(target.features, target_mask),
                regions.label,
                regions.present,
                match,
                config.feature_temperature,
            ),
            "rcc": lambda: class_agreement(logits, regions.probability, match, config.no_object),
            "smc": lambda: semantic_agreement(
                semantic_map(logits, mask), target.semantic, regions.classes(), regions.valid
            ),
        }
