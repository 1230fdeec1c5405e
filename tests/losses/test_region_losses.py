from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import paper_reference as paper
import pytest
import torch
from region_scene import DTYPES, LOSSES, UNIONS, K, Scene
from torch.utils._python_dispatch import TorchDispatchMode

from rc2l_bench.losses.region_losses import (
    add_up,
    contrast,
    mask_consistency,
    members,
    region_class_consistency,
    region_feature_contrast,
    region_mask_contrast,
    unite,
)
from rc2l_bench.losses.regions import Regions, number_regions, pool

SUMS = ["sum", "mean"]
each_loss = pytest.mark.parametrize("name", LOSSES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def masks(*rows):
    """Masks of one image with a single row of pixels, (1, R, 1, w)."""
    return torch.tensor(rows)[None, :, None]


# --- computed by hand ---


def test_rmc_leaves_the_positive_out_of_the_denominator():
    mask = masks([1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0])
    target = masks([1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0])
    found = region_mask_contrast(mask, target, torch.tensor([[4, 0, 2]]), 0.5, "dice")
    scores = [[1, 2 / 5, 0], [0, 2 / 4, 0], [0, 2 / 4, 1]]  # 2 · overlap / (area + area), region by query
    expected = [
        math.log(math.exp(0.4 / 0.5) + 1) - scores[0][0] / 0.5,
        math.log(1 + 1) - scores[1][1] / 0.5,
        math.log(1 + math.exp(0.5 / 0.5)) - scores[2][2] / 0.5,
    ]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    assert min(expected) < 0  # it can be negative, unlike InfoNCE


def test_rmc_with_the_area_of_the_union_as_printed():
    mask, target = masks([1.0, 1.0, 0.0], [0.0, 1.0, 1.0]), masks([1.0, 1.0, 0.0], [0.0, 0.0, 1.0])
    found = region_mask_contrast(mask, target, torch.tensor([[0, 1]]), 1.0, "union")
    expected = [2 * 1 / 3 - 2 * 2 / 2, 0 - 2 * 1 / 2]  # 2 · overlap / area of the union
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_rfc_pools_the_features_of_the_student_under_both_masks():
    features = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0, 1.0]]]])
    mask = masks([1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.5, 0.5])
    target = masks([1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0])
    found = region_feature_contrast(features, mask, target, torch.tensor([[3, 1]]), 0.5)
    slanted = 1 / math.sqrt(2)  # of the first query, to both regions
    np.testing.assert_allclose(found[0], [(0 - slanted) / 0.5, (slanted - 1) / 0.5], rtol=1e-5)


def test_rcc_takes_the_class_of_the_region_and_no_unmatched_query():
    logits = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6]]]).log()
    found = region_class_consistency(logits, torch.tensor([[1, 0, 0]]), torch.tensor([[2, 0, -1]]))
    np.testing.assert_allclose(found[0], [-math.log(0.2), -math.log(0.5), 0.0], rtol=1e-6)


def test_smc_is_focal_and_dice_of_the_united_mask():
    probability = torch.tensor([0.8, 0.5, 0.9]).view(1, 1, 1, 3)
    target = torch.tensor([True, False, False]).view(1, 1, 1, 3)
    valid = torch.tensor([[[True, True, False]]])
    found = mask_consistency(probability.logit(), target, valid, 20.0, 1.0)
    focal = (0.25 * 0.2**2 * -math.log(0.8) + 0.75 * 0.5**2 * -math.log(0.5)) / 2
    dice = 1 - (2 * 0.8 + 1) / (0.8 + 0.5 + 1 + 1)
    assert found.item() == pytest.approx(20 * focal + dice, rel=1e-5)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("max", [0.9, 0.6]),
        ("any", [1 - 0.1 * 0.8, 1 - 0.4 * 0.5]),
        ("sum", [1 - 1e-6, 1 - 1e-6]),
        ("semantic", [0.7 * 0.9 + 0.5 * 0.2 + 0.1 * 0.7, 0.7 * 0.6 + 0.5 * 0.5 + 0.1 * 0.1]),
    ],
)
def test_a_union_of_two_overlapping_masks(how, expected):
    mask = torch.tensor([[0.9, 0.6], [0.2, 0.5], [0.7, 0.1]]).view(1, 3, 1, 2).logit()
    logits = torch.tensor([[[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]]).log()
    member, classes = torch.tensor([[[True, True, False]]]), torch.tensor([[0]])
    united = unite(mask, logits, member, classes, how).sigmoid()
    np.testing.assert_allclose(united.flatten(), expected, atol=2e-6)


def test_members_of_a_class_are_the_queries_that_say_so_and_the_matched_ones():
    logits = torch.tensor([[[9.0, 0, 0], [0, 9, 0], [0, 0, 9], [9, 0, 0]]])
    label, match = torch.tensor([[0, 1, 0]]), torch.tensor([[2, 1, -1]])
    found = members(logits, label, torch.tensor([[0, 1]]), match)
    assert found[0].tolist() == [[True, False, True, True], [False, True, False, False]]


@pytest.mark.parametrize(("over", "expected"), [("sum", (4 + 10 + 0) / 3), ("mean", (2 + 10 + 0) / 3)])
def test_terms_are_added_up_over_regions_and_averaged_over_all_images(over, expected):
    value = torch.tensor([[1.0, 3.0], [10.0, torch.pi], [5.0, 5.0]])
    counted = torch.tensor([[True, True], [True, False], [False, False]])
    assert add_up(value, counted, over).item() == pytest.approx(expected)


def test_a_region_that_counts_twice_weighs_twice():
    value, counted = torch.tensor([[1.0, 4.0]]), torch.tensor([[1, 2]])
    assert add_up(value, counted, "sum").item() == 9
    assert add_up(value, counted, "mean").item() == 3


# --- against the slow reference ---


@pytest.mark.parametrize("over", SUMS)
@pytest.mark.parametrize(("overlap", "d"), [("dice", paper.dice_of), ("union", paper.twice_iou_of)])
def test_rmc_equals_equation_5(overlap, d, over):
    scene = Scene(1, dtype=torch.float64)
    expected = paper.batch_mean([paper.rmc(image, 0.7, d) for image in scene.images()], over)
    assert scene.rmc(overlap=overlap, over_regions=over).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("over", SUMS)
@pytest.mark.parametrize("seed", range(3))
def test_rfc_equals_equations_6_to_8(seed, over):
    scene = Scene(seed)
    expected = paper.batch_mean([paper.rfc(image, 0.3) for image in scene.images()], over)
    assert scene.rfc(over_regions=over).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("over", SUMS)
def test_rcc_equals_equation_9(over):
    scene = Scene(2)
    expected = paper.batch_mean([paper.rcc(image) for image in scene.images()], over)
    assert scene.rcc(over_regions=over).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("over", SUMS)
@pytest.mark.parametrize("twins", [False, True])
@pytest.mark.parametrize("how", UNIONS)
def test_smc_equals_equation_10(how, twins, over):
    scene = Scene(3, dtype=torch.float64, twins=twins)
    expected = paper.batch_mean([paper.smc(image, how, 20.0, 1.0) for image in scene.images()], over)
    assert scene.smc(how, over_regions=over).item() == pytest.approx(expected, abs=1e-6)


def test_mask_consistency_equals_a_loop_over_regions():
    scene = Scene(4)
    expected = paper.batch_mean([paper.mask_consistency(image, 20.0, 1.0) for image in scene.images()])
    assert scene.consistency().item() == pytest.approx(expected, abs=1e-6)


@each_loss
def test_regions_that_are_left_over_are_no_rivals_and_have_no_term(name):
    """As with more regions than queries: N_t > N."""
    scene = Scene(5, dtype=torch.float64)
    scene.match[0, 1] = -1
    images = scene.images()
    expected = {
        "rmc": [paper.rmc(image, 0.7) for image in images],
        "rfc": [paper.rfc(image, 0.3) for image in images],
        "rcc": [paper.rcc(image) for image in images],
        "consistency": [paper.mask_consistency(image, 20.0, 1.0) for image in images],
    }
    expected |= {f"smc {how}": [paper.smc(image, how, 20.0, 1.0) for image in images] for how in UNIONS}
    assert scene.loss(name).item() == pytest.approx(paper.batch_mean(expected[name]), abs=1e-6)


# --- what must not matter ---


def reorder_regions(scene, order):
    old = scene.regions
    scene.match = scene.match[:, order]
    scene.regions = replace(
        old,
        index=order.argsort()[old.index].where(old.index >= 0, -1),
        present=old.present[:, order],
        label=old.label[:, order],
        probability=old.probability[:, order],
    )


@each_loss
def test_the_order_of_queries_changes_nothing(name):
    scene = Scene()
    before = scene.loss(name)
    order = torch.randperm(6)
    scene.logits, scene.mask = scene.logits[:, order], scene.mask[:, order]
    scene.match = order.argsort()[scene.match].where(scene.match >= 0, -1)
    torch.testing.assert_close(scene.loss(name), before)


@each_loss
def test_the_order_of_regions_changes_nothing(name):
    scene = Scene(twins=True)
    before = scene.loss(name)
    reorder_regions(scene, torch.tensor([2, 0, 1]))
    torch.testing.assert_close(scene.loss(name), before)


@each_loss
def test_the_order_of_images_changes_nothing(name):
    scene = Scene()
    before = scene.loss(name)
    for key in ("logits", "mask", "features", "match"):
        setattr(scene, key, getattr(scene, key).flip(0))
    scene.regions = Regions(**{key: getattr(scene.regions, key).flip(0) for key in Regions.__slots__})
    torch.testing.assert_close(scene.loss(name), before)


@each_loss
def test_padding_of_regions_changes_nothing(name):
    scene = Scene()
    before = scene.loss(name)
    old, pad = scene.regions, torch.nn.functional.pad
    padded = {key: pad(getattr(old, key), (0, 3)) for key in ("present", "label")}
    scene.regions = replace(old, **padded, probability=pad(old.probability, (0, 0, 0, 3)))
    scene.match = pad(scene.match, (0, 3), value=-1)
    torch.testing.assert_close(scene.loss(name), before)


@each_loss
def test_an_image_does_not_look_at_its_neighbours(name):
    """So the number of processes that a batch is spread over changes nothing."""
    whole = Scene()
    halves = []
    for part in (slice(0, 2), slice(2, 4)):
        scene = Scene()
        for key in ("logits", "mask", "features", "match"):
            setattr(scene, key, getattr(scene, key)[part])
        scene.regions = Regions(**{key: getattr(scene.regions, key)[part] for key in Regions.__slots__})
        halves.append(scene.loss(name))
    torch.testing.assert_close((halves[0] + halves[1]) / 2, whole.loss(name))


@each_loss
def test_what_lies_outside_of_v_changes_nothing_and_learns_nothing(name):
    scene = Scene()
    before = scene.loss(name)
    outside = ~scene.regions.valid[:, None]
    assert outside.any()
    with torch.no_grad():
        for x in (scene.mask, scene.features):
            x += 7 * outside
    assert torch.equal(scene.loss(name), before)
    scene.loss(name).backward()
    for x in (scene.mask.grad, scene.features.grad):
        assert x is None or not (x * outside).any()


# --- corners ---


@pytest.mark.parametrize("name", ["rmc", "rfc"])
def test_one_region_has_no_rivals_so_its_contrast_is_zero_with_a_zero_gradient(name):
    scene = Scene(regions=1)
    assert scene.regions.present.sum(1).max() == 1
    loss = scene.loss(name)
    loss.backward()
    assert loss == 0
    assert not any(x.grad.any() for x in scene.leaves() if x.grad is not None)


@each_dtype
@each_loss
def test_without_regions_a_loss_is_exactly_zero_with_a_zero_gradient(name, dtype):
    scene = Scene(dtype=dtype)
    index = torch.full((4, 7, 8), -1)
    scene.regions = number_regions(index, torch.eye(K).expand(4, -1, -1), index >= 0).first(1)
    scene.match = torch.full((4, 1), -1)
    loss = scene.loss(name)
    loss.backward()
    assert loss == 0
    grads = [x.grad for x in scene.leaves() if x.grad is not None]
    assert grads
    assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("value", [1e4, -1e4, float("inf"), -float("inf"), float("nan")])
@each_dtype
@each_loss
def test_any_logits_give_finite_losses(name, dtype, value):
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


@each_loss
def test_half_precision_is_computed_in_float32(name):
    """Sums over the pixels of a mask would overflow float16 and lose their digits in bfloat16."""
    values = []
    for dtype in (torch.float32, torch.bfloat16):
        scene = Scene(6)
        for key in ("logits", "mask", "features"):
            setattr(scene, key, getattr(scene, key).detach().bfloat16().to(dtype))
        with torch.autocast("cpu", torch.bfloat16):
            values.append(scene.loss(name).item())
    assert values[0] == pytest.approx(values[1], rel=1e-6)


@each_loss
def test_gradients_are_right(name):
    scene = Scene(7, images=4, queries=4, side=3, dtype=torch.float64)
    if name == "smc sum":  # a sum at its limit has a kink
        scene.mask.data -= 4

    def loss(logits, mask, features):
        scene.logits, scene.mask, scene.features = logits, mask, features
        return scene.loss(name)

    assert torch.autograd.gradcheck(loss, scene.leaves(), atol=1e-5)


def test_rfc_learns_through_what_the_query_sees_and_through_what_the_region_sees():
    scene = Scene(8)
    m, target, match = scene.m().detach(), scene.regions.mask(), scene.match
    region_feature_contrast(scene.features, m, target, match, 0.3).sum().backward()
    parts = []
    for held in ("query", "region"):
        features = scene.features.detach().requires_grad_()
        query, region = (pool(features.detach() if held == name else features, x)
                         for name, x in (("query", m), ("region", target)))  # fmt: skip
        contrast(torch.einsum("bid,bjd->bij", region, query) / 0.3, match >= 0).sum().backward()
        parts.append(features.grad)
    assert all(part.any() for part in parts)
    torch.testing.assert_close(parts[0] + parts[1], scene.features.grad)


def test_contrast_ignores_scores_of_queries_that_are_not_matched():
    score = torch.randn(1, 4, 4)
    matched = torch.tensor([[True, True, False, True]])
    found = contrast(score, matched)
    score[:, :, 2] = 1e3
    assert torch.equal(contrast(score, matched), found)
    assert found[0, 2] == 0


# --- memory ---


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that was made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor):
                self.numel = max(self.numel, x.untyped_storage().nbytes() // x.itemsize)
        return out


@each_loss
def test_memory_grows_linearly_with_pixels(name):
    largest = []
    for side in (8, 32):
        scene = Scene(side=side)
        with Largest() as mode:
            scene.loss(name).backward()
        largest.append(mode.numel)
    assert largest[1] <= 16 * largest[0]
