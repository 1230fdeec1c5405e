"""The InfoNCE reading: what its losses are, and that it trains."""

from __future__ import annotations

import math

import infonce_reference as reference
import numpy as np
import pytest
import region_reference
import torch
import torch.nn.functional as F
from method_data import make, make_batch, make_learned, train, without_unlabelled_loss
from region_scene import DTYPES, Scene

from baselines.rc2l_infonce import (
    class_agreement,
    feature_contrast,
    mask_contrast,
    mean_over_regions,
    semantic_agreement,
    unmatched,
)
from rc2l_bench.losses.pseudo_regions import semantic_map
from rc2l_bench.losses.regions import mask_probability, number_regions, of_query, pool

METHOD = "baselines/rc2l_infonce"
NAMES = ["rmc", "rfc", "rcc", "smc"]


class InfoNCEScene(Scene):
    """The same scene, with the losses of the reading and soft class distributions."""

    def soft(self):
        g = torch.Generator().manual_seed(1)
        probability = torch.rand(self.regions.probability.shape, generator=g).softmax(-1)
        return probability * self.regions.present[..., None]

    def every(self):
        return mask_probability(self.mask, self.regions.valid)

    def rmc(self):
        return mask_contrast(self.every(), self.regions.mask(), self.match, 0.3)

    def rfc(self):
        student = of_query(pool(self.features, self.every()), self.match)
        teacher, regions = pool(self.teacher, self.regions.mask()), self.regions
        return feature_contrast(student, teacher, regions.label, regions.present, self.match, 0.3)

    def rcc(self, no_object=0.1):
        return class_agreement(self.logits, self.soft(), self.match, no_object)

    def smc(self):
        student = semantic_map(self.logits.float(), self.every())
        return semantic_agreement(student, self.semantic, self.regions.classes(), self.regions.valid)

    def expected(self, name):
        """What a slow loop gives, in float64."""
        logits, mask, features = (x.detach().double().numpy() for x in (self.logits, self.every(), self.features))
        target, match, regions = self.regions.mask().double().numpy(), self.match.numpy(), self.regions
        label, present = regions.label.numpy(), regions.present.numpy()
        if name == "rmc":
            return reference.mask_contrast(mask, target, match, 0.3)
        if name == "rcc":
            return reference.class_agreement(logits, self.soft().double().numpy(), match, 0.1)
        if name == "rfc":
            student, other = np.zeros((*match.shape, 5)), np.zeros((*match.shape, 5))
            for b, j in np.argwhere(match >= 0):
                student[b, j] = region_reference.pool(features[b], mask[b, match[b, j]])
                other[b, j] = region_reference.pool(self.teacher[b].double().numpy(), target[b, j])
            return reference.feature_contrast(student, other, label, present, match, 0.3)
        maps = np.stack([region_reference.semantic(c, m) for c, m in zip(logits, mask, strict=True)])
        student = maps / np.maximum(maps.sum(1, keepdims=True), 1e-6)
        semantic, classes = self.semantic.double().numpy(), regions.classes().numpy()
        return reference.semantic_agreement(student, semantic, classes, regions.valid.numpy())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_each_loss_equals_a_loop_over_regions_and_queries(name, seed):
    scene = InfoNCEScene(seed)
    assert getattr(scene, name)().item() == pytest.approx(scene.expected(name), abs=1e-6)


def test_the_mask_contrast_has_the_positive_in_the_denominator():
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]).view(1, 2, 1, 4)
    target = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).view(1, 1, 1, 4)
    right, wrong = 5 / 5, 1 / 5  # (2 · 2 + 1) / (2 + 2 + 1), (0 + 1) / (2 + 2 + 1)
    expected = -math.log(math.exp(right / 0.5) / (math.exp(right / 0.5) + math.exp(wrong / 0.5)))
    assert mask_contrast(mask, target, torch.tensor([[0]]), 0.5).item() == pytest.approx(expected, rel=1e-6)


def test_the_feature_contrast_looks_into_the_whole_batch():
    student = F.normalize(torch.randn(2, 1, 4), dim=-1)
    label, match = torch.tensor([[0], [1]]), torch.zeros(2, 1, dtype=torch.int64)
    assert feature_contrast(student, student, label, match >= 0, match, 0.1) > 0
    assert feature_contrast(student[:1], student[:1], label[:1], match[:1] >= 0, match[:1], 0.1) == 0


def test_unmatched_queries_are_told_to_have_no_object_unless_their_weight_is_zero():
    scene = InfoNCEScene()
    free = unmatched(scene.match, 6)
    assert unmatched(torch.tensor([[0, 2, -1], [-1, -1, -1]]), 4).tolist() == [[False, True, False, True], [True] * 4]
    scene.rcc(0.0).backward()
    assert not scene.logits.grad[free].any()
    scene.rcc(0.1).backward()
    assert scene.logits.grad[free & scene.regions.present.any(1, keepdim=True)].any(-1).all()


def test_means_are_taken_over_regions_first_and_then_over_images_that_have_any():
    value = torch.tensor([[1.0, 3.0], [10.0, torch.pi], [5.0, 5.0]])
    matched = torch.tensor([[True, True], [True, False], [False, False]])
    assert mean_over_regions(value, matched).item() == (2 + 10) / 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_without_regions_a_loss_is_exactly_zero(name, dtype):
    scene = InfoNCEScene(dtype=dtype)
    index = torch.full((4, 7, 8), -1)
    scene.regions = number_regions(index, torch.eye(4).expand(4, -1, -1), index >= 0).first(1)
    scene.match = torch.full((4, 1), -1)
    loss = getattr(scene, name)()
    loss.backward()
    assert loss == 0
    assert not any(x.grad.any() for x in scene.leaves() if x.grad is not None)


@pytest.mark.parametrize("value", [1e4, -1e4])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits_give_finite_losses_and_gradients(name, dtype, value):
    scene = InfoNCEScene(dtype=dtype)
    with torch.no_grad():
        scene.logits[:, ::2, 1:3] = value
        scene.mask[:, :3] = value
        scene.mask[:, 3] = -value
    with torch.autocast("cpu", torch.bfloat16 if dtype == torch.float32 else dtype, enabled=dtype != torch.float32):
        loss = getattr(scene, name)()
    loss.backward()
    assert loss.isfinite()
    assert all(x.grad.isfinite().all() for x in scene.leaves() if x.grad is not None)


@pytest.mark.parametrize(
    "changes", [{"regions": "query"}, {"views.strong": 2}, {"no_object": 0.0}, {"buffers": "copy"}]
)
def test_every_choice_trains(changes):
    method = make_learned(METHOD, {"threshold": 0.0} | changes)
    rows = train(method, 15, [make_batch(method, 9)], "adamw")
    assert rows[-1]["supervised"] < rows[0]["supervised"]
    assert all(0 < row[name] < 100 for row in rows for name in NAMES)


def test_with_all_weights_at_zero_the_teacher_is_not_asked():
    method = make(METHOD, without_unlabelled_loss(METHOD))
    method.teacher.net.segment = None
    assert method(make_batch(method), 0.9)["supervised"] > 0
