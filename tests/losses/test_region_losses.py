from __future__ import annotations

import math

import numpy as np
import pytest
import region_reference as reference
import torch
import torch.nn.functional as F
from region_scene import K, Scene
from torch.utils._python_dispatch import TorchDispatchMode

from rc2l_bench.losses.region_losses import (
    mean_over_regions,
    region_class_consistency,
    region_feature_contrast,
    region_mask_contrast,
    semantic_mask_consistency,
    unmatched,
)
from rc2l_bench.losses.regions import Regions, number_regions, semantic_map

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NAMES = ["rmc", "rfc", "rcc", "smc"]


def test_rmc_computed_by_hand():
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]).view(1, 2, 1, 4)
    target = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).view(1, 1, 1, 4)
    right, wrong = 5 / 5, 1 / 5  # (2 · 2 + 1) / (2 + 2 + 1), (0 + 1) / (2 + 2 + 1)
    expected = -math.log(math.exp(right / 0.5) / (math.exp(right / 0.5) + math.exp(wrong / 0.5)))
    assert region_mask_contrast(mask, target, torch.tensor([[0]]), 0.5).item() == pytest.approx(expected, rel=1e-6)


def test_rfc_computed_by_hand():
    student = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    teacher = torch.tensor([[[0.6, 0.8], [0.0, 1.0]]])
    label, match = torch.tensor([[0, 2]]), torch.tensor([[4, 1]])
    losses = [-math.log(math.exp(0.6) / (math.exp(0.6) + 1)), -math.log(math.e / (math.e + math.exp(0.8)))]
    found = region_feature_contrast(student, teacher, label, match >= 0, match, 1.0, "image", "matched")
    assert found.item() == pytest.approx(sum(losses) / 2, rel=1e-6)


def test_rcc_computed_by_hand():
    logits = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]]]).log()
    found = region_class_consistency(logits, torch.tensor([[[0.75, 0.25]]]), torch.tensor([[0]]), 0.1)
    agreement, silence = -0.75 * math.log(0.5) - 0.25 * math.log(0.3), -math.log(0.6)
    assert found.item() == pytest.approx((agreement + 0.1 * silence) / 1.1, rel=1e-6)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("dice", 1 - (2 * (0.5 + 0.04) + 1) / (0.7 + 1.2 + 1)),
        ("bce", -(math.log(0.5) + 0.2 * math.log(0.2) + 0.8 * math.log(0.8)) / 2),
        ("mse", 0.25 / 2),
    ],
)
def test_smc_computed_by_hand(form, expected):
    student = torch.tensor([0.5, 0.2, 0.9]).view(1, 1, 1, 3)
    teacher = torch.tensor([1.0, 0.2, 0.0]).view(1, 1, 1, 3)
    valid = torch.tensor([[[True, True, False]]])
    found = semantic_mask_consistency(student, teacher, torch.ones(1, 1).bool(), valid, form)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_rmc_equals_a_loop_over_regions_and_queries(seed):
    scene = Scene(seed)
    _, mask, target, match = scene.arrays()
    assert scene.rmc().item() == pytest.approx(reference.rmc(mask, target, match, 0.3), abs=1e-6)


@pytest.mark.parametrize("scope", ["image", "batch"])
@pytest.mark.parametrize("positives", ["matched", "class"])
def test_rfc_equals_a_loop_over_regions(scope, positives):
    scene = Scene(3, images=5)
    _, mask, target, match = scene.arrays()
    features, teacher = scene.features.detach().double().numpy(), scene.teacher.double().numpy()
    student, other = np.zeros((*match.shape, 5)), np.zeros((*match.shape, 5))
    for b, j in np.argwhere(match >= 0):
        student[b, j] = reference.pool(features[b], mask[b, match[b, j]])
        other[b, j] = reference.pool(teacher[b], target[b, j])
    label, present = scene.regions.label.numpy(), scene.regions.present.numpy()
    expected = reference.rfc(student, other, label, present, match, 0.3, scope, positives)
    assert scene.rfc(0.3, scope, positives).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("no_object", [0.0, 0.1, 1.0])
def test_rcc_equals_a_loop_over_queries(no_object):
    scene = Scene(1)
    logits, _, _, match = scene.arrays()
    expected = reference.rcc(logits, scene.regions.probability.double().numpy(), match, no_object)
    assert scene.rcc(no_object).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("form", ["dice", "bce", "mse"])
def test_smc_equals_a_loop_over_classes(form):
    scene = Scene(2)
    logits, mask, _, _ = scene.arrays()
    maps = np.stack([reference.semantic(c, m) for c, m in zip(logits, mask, strict=True)])
    student = maps / np.maximum(maps.sum(1, keepdims=True), 1e-6)
    classes, valid = scene.regions.classes().numpy(), scene.regions.valid.numpy()
    expected = reference.smc(student, scene.semantic.double().numpy(), classes, valid, form)
    assert scene.smc(form).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_queries_changes_nothing(name):
    scene = Scene()
    before = scene.loss(name)
    order = torch.randperm(6)
    scene.logits, scene.mask = scene.logits[:, order], scene.mask[:, order]
    scene.match = order.argsort()[scene.match].where(scene.match >= 0, -1)
    torch.testing.assert_close(scene.loss(name), before)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_regions_changes_nothing(name):
    scene = Scene()
    before = scene.loss(name)
    old, order = scene.regions, torch.tensor([2, 0, 1])
    scene.match = scene.match[:, order]
    scene.regions = Regions(
        index=order.argsort()[old.index].where(old.index >= 0, -1),
        valid=old.valid,
        present=old.present[:, order],
        label=old.label[:, order],
        probability=old.probability[:, order],
    )
    torch.testing.assert_close(scene.loss(name), before)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_images_changes_nothing(name):
    scene = Scene()
    before = scene.loss(name)
    for key in ("logits", "mask", "features", "teacher", "semantic", "match"):
        setattr(scene, key, getattr(scene, key).flip(0))
    old = scene.regions
    scene.regions = Regions(**{key: getattr(old, key).flip(0) for key in Regions.__slots__})
    torch.testing.assert_close(scene.loss(name), before)


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_outside_of_v_changes_nothing(name):
    scene = Scene()
    before = scene.loss(name)
    outside = ~scene.regions.valid[:, None]
    with torch.no_grad():
        for x in (scene.mask, scene.features, scene.teacher, scene.semantic):
            x += 7 * outside
    assert torch.equal(scene.loss(name), before)
    scene.loss(name).backward()
    for x in (scene.mask.grad, scene.features.grad):
        assert x is None or not (x * outside).any()


def binary_scene():
    """Student and teacher agree: one disjoint mask per class, and one query that sees nothing."""
    label = torch.arange(4).repeat_interleave(2).expand(2, 6, -1).clone()
    mask = F.one_hot(label, K + 1).movedim(-1, 1).float()
    logits = (F.one_hot(torch.arange(K + 1), K + 1).float() * 100).expand(2, -1, -1)
    return label, mask, logits


def test_a_student_that_equals_its_teacher_has_no_smc_and_no_rmc():
    label, mask, logits = binary_scene()
    regions = number_regions(label, torch.eye(K).expand(2, -1, -1), label >= 0)
    student = semantic_map(logits, mask)
    assert semantic_mask_consistency(student, mask[:, :K], regions.classes(), regions.valid, "dice").item() == 0
    match = torch.arange(K).expand(2, -1)
    values = [region_mask_contrast(mask, regions.mask(), match, t).item() for t in (1.0, 0.1, 0.01)]
    assert values[0] > values[1] > values[2] == 0


def test_smc_is_largest_where_nothing_agrees():
    label, mask, _ = binary_scene()
    everything = torch.ones(2, K).bool()
    same = semantic_mask_consistency(mask[:, :K], mask[:, :K], everything, label >= 0, "dice")
    other = semantic_mask_consistency(mask[:, :K].roll(1, 1), mask[:, :K], everything, label >= 0, "dice")
    assert same == 0
    assert other > 0.9


def test_rfc_of_an_image_of_one_class_is_zero_within_the_image_but_not_within_the_batch():
    student = F.normalize(torch.randn(2, 1, 4), dim=-1)
    label, match = torch.tensor([[0], [1]]), torch.zeros(2, 1, dtype=torch.int64)
    assert region_feature_contrast(student, student, label, match >= 0, match, 0.1, "image", "matched") == 0
    assert region_feature_contrast(student, student, label, match >= 0, match, 0.1, "batch", "matched") > 0


def test_rcc_leaves_unmatched_queries_alone_at_weight_zero():
    scene = Scene()
    scene.rcc(0.0).backward()
    free = unmatched(scene.match, 6)
    assert not scene.logits.grad[free].any()
    scene.rcc(0.1).backward()
    assert scene.logits.grad[free & scene.regions.present.any(1, keepdim=True)].any(-1).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_without_regions_a_loss_is_exactly_zero_with_a_zero_gradient(name, dtype):
    scene = Scene(dtype=dtype)
    index = torch.full((4, 7, 8), -1)
    scene.regions = number_regions(index, torch.eye(K).expand(4, -1, -1), index >= 0)
    scene.match = torch.full((4, 1), -1)
    loss = scene.loss(name)
    loss.backward()
    assert loss == 0
    grads = [x.grad for x in scene.leaves() if x.grad is not None]
    assert grads
    assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("value", [1e4, -1e4])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits_give_finite_losses_and_gradients(name, dtype, value):
    scene = Scene(dtype=dtype)
    with torch.no_grad():
        scene.logits[:, ::2, 1:3] = value
        scene.mask[:, :3] = value
        scene.mask[:, 3] = -value
    with torch.autocast("cpu", torch.bfloat16 if dtype == torch.float32 else dtype, enabled=dtype != torch.float32):
        loss = scene.loss(name)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert all(x.grad.isfinite().all() for x in scene.leaves() if x.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_right(name):
    scene = Scene(5, images=2, queries=4, height=3, width=3)
    loss = scene.loss(name)
    loss.backward()
    x = max(scene.leaves(), key=lambda leaf: 0 if leaf.grad is None else float(leaf.grad.abs().max()))
    place = np.unravel_index(int(x.grad.abs().argmax()), x.shape)
    values = []
    for step in (-1e-2, 1e-2):
        with torch.no_grad():
            x[place] += step
            values.append(scene.loss(name).item())
            x[place] -= step
    assert (values[1] - values[0]) / 2e-2 == pytest.approx(x.grad[place].item(), rel=2e-2)


def test_means_are_taken_over_regions_first_and_then_over_images_that_have_any():
    value = torch.tensor([[1.0, 3.0], [10.0, torch.pi], [5.0, 5.0]])
    matched = torch.tensor([[True, True], [True, False], [False, False]])
    assert mean_over_regions(value, matched).item() == (2 + 10) / 2


def test_unmatched_queries_are_those_that_no_region_has():
    match = torch.tensor([[0, 2, -1], [-1, -1, -1]])
    assert unmatched(match, 4).tolist() == [[False, True, False, True], [True] * 4]


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that was made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor):
                self.numel = max(self.numel, x.untyped_storage().nbytes() // x.itemsize)
        return out


@pytest.mark.parametrize("name", NAMES)
def test_memory_grows_linearly_with_pixels(name):
    largest = []
    for size in (8, 32):
        scene = Scene(height=size, width=size)
        with Largest() as mode:
            scene.loss(name).backward()
        largest.append(mode.numel)
    assert largest[1] <= 16 * largest[0]
