from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import region_reference as reference
import torch
import torch.nn.functional as F

from rc2l_bench.losses.regions import (
    bounded,
    class_regions,
    label_regions,
    mix,
    number_regions,
    pool,
    query_regions,
    read_target,
    semantic_map,
)
from rc2l_bench.nets.lattice import Lattice
from rc2l_bench.nets.region_net import Prediction

K = 4


def semantic_of(label):
    """Scores that are sure of a label map."""
    return F.one_hot(torch.tensor(label), K).movedim(-1, -3).double()


def pair(x):
    """An image with the second image of a pair, which is empty."""
    return torch.cat([x, torch.zeros_like(x)])


def no_box(images, height, width):
    return torch.zeros(1, images, height, width, dtype=torch.bool)


def test_bounded_makes_any_logits_finite():
    wild = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 2.5])
    assert bounded(wild).tolist() == [0, 1e4, -1e4, 1e4, -1e4, 2.5]
    assert bounded(wild.to(torch.float16)).dtype == torch.float32


def test_empty_slots_are_dropped():
    index = torch.tensor([[[5, 5], [2, -1]], [[7, 7], [7, 7]]])
    probability = torch.eye(8).expand(2, -1, -1)
    regions = number_regions(index, probability, index >= 0)
    assert regions.present.tolist() == [[True, True], [True, False]]
    assert regions.label.tolist() == [[2, 5], [7, 0]]
    assert regions.index.tolist() == [[[1, 1], [0, -1]], [[0, 0], [0, 0]]]
    assert regions.probability[1, 1].sum() == 0


def test_a_batch_without_regions_has_one_empty_slot():
    regions = number_regions(torch.full((2, 3, 3), -1), torch.eye(K).expand(2, -1, -1), torch.ones(2, 3, 3).bool())
    assert regions.present.tolist() == [[False], [False]]
    assert not regions.mask().any()
    assert not regions.classes().any()


def test_labels_become_one_region_per_class_present():
    label = torch.randint(0, K, (3, 5, 6))
    label[0, 0] = 255
    label[1] = 2
    regions = label_regions(label, K, "excluded")
    for b in range(3):
        classes, masks = reference.truth_masks(label[b].numpy())
        assert regions.label[b, regions.present[b]].tolist() == classes
        np.testing.assert_array_equal(regions.mask()[b, regions.present[b]], masks)
    assert torch.equal(regions.valid, label != 255)
    assert label_regions(label, K, "background").valid.all()


def test_a_region_that_is_lost_in_shrinking_is_still_present():
    label = torch.zeros(1, 8, 8, dtype=torch.int64)
    label[0, 1, 1] = 3
    regions = label_regions(label, K, "excluded").shrink(Lattice(4.0), (2, 2))
    assert regions.present.tolist() == [[True, True]]
    assert not regions.mask()[0, 1].any()


def test_classes_of_regions_ignore_padding():
    label = torch.tensor([[[1, 1]], [[0, 3]]])
    assert label_regions(label, K, "excluded").classes().tolist() == [
        [False, True, False, False],
        [True, False, False, True],
    ]


def test_a_class_region_is_where_the_teacher_is_sure_of_the_class():
    semantic = torch.tensor([[0.9, 0.8, 0.2, 0.1], [0.1, 0.2, 0.8, 0.9], [0.0] * 4, [0.0] * 4]).view(1, K, 1, 4)
    valid = torch.tensor([[[True, True, True, False]]])
    regions = class_regions(semantic, valid, 0.85)
    assert regions.present.tolist() == [[True]]
    assert regions.index.tolist() == [[[0, -1, -1, -1]]]
    assert regions.valid.tolist() == [[[True, False, False, False]]]
    regions = class_regions(semantic, valid, 0.5)
    assert regions.label.tolist() == [[0, 1]]
    torch.testing.assert_close(regions.probability[0, 0], torch.tensor([0.85, 0.15, 0, 0]))
    torch.testing.assert_close(regions.probability[0, 1], torch.tensor([0.2, 0.8, 0, 0]))


def sure(*classes):
    """Class logits of queries that are sure of a class; K = no object."""
    return F.one_hot(torch.tensor(classes), K + 1).float() * 20


def test_a_query_region_is_the_binarised_mask_of_a_confident_query():
    mask = (
        torch.tensor([[5.0, -5, -5, -5], [-5, 5, -5, -5], [-5, -5, 5, -5], [-5, -5, -5, -5]]).view(1, 4, 1, 4).sigmoid()
    )
    logits = sure(2, K, 2, 1)[None]
    regions = query_regions(pair(logits), pair(mask), pair(torch.ones(1, 1, 4)).bool(), no_box(2, 1, 4), 0.9)
    assert regions.present[0].tolist() == [True, True]  # of the same class; no object and empty masks give none
    assert regions.label[0].tolist() == [2, 2]
    assert regions.index[0].tolist() == [[0, -1, 1, -1]]
    assert torch.equal(regions.valid, regions.index >= 0)


def test_queries_below_the_threshold_give_no_region():
    mask = torch.full((2, 1, 1, 2), 0.9)
    logits = torch.tensor([0.8, 0.1, 0.05, 0.03, 0.02]).log().expand(2, 1, -1)
    valid = torch.ones(2, 1, 2).bool()
    assert query_regions(logits, mask, valid, no_box(2, 1, 2), 0.79).present.all()
    assert not query_regions(logits, mask, valid, no_box(2, 1, 2), 0.81).present.any()


def test_overlaps_of_query_regions_go_to_the_more_probable_query():
    mask = torch.tensor([[9.0, 9, -9], [-9, 1, 1]]).view(1, 2, 1, 3).sigmoid()
    logits = torch.stack([sure(0)[0] * 0.2, sure(1)[0]])[None]
    valid = pair(torch.ones(1, 1, 3)).bool()
    regions = query_regions(pair(logits), pair(mask), valid, no_box(2, 1, 3), 0.5)
    label = regions.label[0][regions.index[0]]
    assert label.tolist() == [[0, 1, 1]]


def test_the_distribution_of_a_query_region_has_no_no_object():
    logits = torch.tensor([0.6, 0.2, 0.0, 0.0, 0.2]).clamp(min=1e-9).log().expand(2, 1, -1)
    valid = torch.ones(2, 1, 1).bool()
    regions = query_regions(logits, torch.ones(2, 1, 1, 1), valid, no_box(2, 1, 1), 0.5)
    torch.testing.assert_close(regions.probability[0, 0], torch.tensor([0.75, 0.25, 0, 0]), atol=1e-6, rtol=0)


def test_pasted_query_regions_keep_their_own_class():
    mask = torch.full((2, 1, 1, 4), 0.9)
    logits = torch.stack([sure(0), sure(3)])
    box = torch.tensor([False, False, True, True]).view(1, 1, 1, 4).expand(2, 2, 1, 4)
    regions = query_regions(logits, mask, torch.ones(2, 1, 4).bool(), box, 0.5)
    picture = regions.label.gather(1, regions.index.flatten(1))
    assert picture.tolist() == [[0, 0, 3, 3], [3, 3, 0, 0]] * 2


def test_mix_repeats_images_for_every_view():
    x = torch.arange(2 * 4).view(2, 2, 2)
    box = torch.zeros(2, 2, 2, 2, dtype=torch.bool)
    box[1, :, 0] = True
    assert torch.equal(mix(x, box)[:2], x)
    assert torch.equal(mix(x, box)[2], torch.stack([x[1, 0], x[0, 1]]))


def teacher_sees(label, dim=6, stride=1.0):
    """A prediction whose queries are the classes; features hold the place of a pixel."""
    label = torch.as_tensor(label)
    features = torch.cat(
        [F.one_hot(label, K).movedim(-1, 1).float(), torch.randn(len(label), dim - K, *label.shape[1:])], 1
    )
    embedding = F.pad(torch.eye(K), (0, dim - K)).expand(len(label), 1, -1, -1) * 40
    shifted = torch.cat([features[:, :K] - 0.5, features[:, K:]], 1)
    logits = (F.one_hot(torch.arange(K), K + 1) * 20.0).expand(len(label), 1, -1, -1)
    return Prediction(logits=logits, embedding=embedding, features=shifted, lattice=Lattice(stride))


@pytest.mark.parametrize("form", ["class", "query"])
def test_a_target_is_cut_and_pasted_like_the_images(form):
    label = torch.randint(0, K, (4, 6, 6))
    box = torch.rand(2, 4, 6, 6) < 0.5
    box[:, 1::2] = box[:, ::2]
    target = read_target(teacher_sees(label), torch.ones(4, 6, 6).bool(), box, form, 0.5, "soft")
    expected = mix(label, box)
    picture = target.regions.label.gather(1, target.regions.index.flatten(1)).view_as(expected)
    assert torch.equal(picture, expected)
    assert torch.equal(target.semantic.argmax(1), expected)
    assert torch.equal(target.features[:, :K].argmax(1), expected)


@pytest.mark.parametrize("form", ["class", "query"])
def test_what_lies_outside_the_image_is_in_no_region(form):
    label = torch.zeros(2, 8, 8, dtype=torch.int64)
    valid = torch.ones(2, 16, 16).bool()
    valid[:, :, 8:] = False
    target = read_target(teacher_sees(label, stride=2.0), valid, no_box(2, 16, 16), form, 0.5, "soft")
    assert torch.equal(target.regions.valid, valid[:, ::2, ::2])
    assert torch.equal(target.regions.mask().any(1), target.regions.valid)


@pytest.mark.parametrize("form", ["class", "query"])
def test_hard_targets_are_unions_of_regions(form):
    label = torch.randint(0, K, (2, 5, 5))
    seen = teacher_sees(label)
    target = read_target(seen, torch.ones(2, 5, 5).bool(), no_box(2, 5, 5), form, 0.5, "hard")
    assert torch.equal(target.semantic, F.one_hot(label, K).movedim(-1, 1).float())
    assert set(target.regions.probability.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("form", ["class", "query"])
def test_a_teacher_of_nothing_but_nan_gives_no_region(form):
    seen = teacher_sees(torch.zeros(2, 4, 4, dtype=torch.int64))
    broken = replace(seen, logits=seen.logits * torch.nan)
    target = read_target(broken, torch.ones(2, 4, 4).bool(), no_box(2, 4, 4), form, 0.9, "soft")
    assert not target.regions.present.any()


def test_the_semantic_map_is_normalised_and_zero_without_masks():
    logits, mask = torch.randn(2, 5, K + 1), torch.rand(2, 5, 3, 3)
    mask[:, :, 0, 0] = 0
    total = semantic_map(logits, mask).sum(1)
    assert total[:, 0, 0].tolist() == [0, 0]
    torch.testing.assert_close(total[:, 1:], torch.ones(2, 2, 3))


def test_pooling_equals_a_loop_over_pixels():
    features, mask = torch.randn(2, 5, 4, 3).double(), torch.rand(2, 3, 4, 3).double()
    pooled = pool(features, mask)
    for b in range(2):
        for r in range(3):
            np.testing.assert_allclose(pooled[b, r], reference.pool(features[b].numpy(), mask[b, r].numpy()), atol=1e-6)


def test_pooling_an_empty_mask_gives_zero_and_no_nan():
    features, mask = torch.randn(1, 4, 3, 3, requires_grad=True), torch.zeros(1, 2, 3, 3, requires_grad=True)
    pooled = pool(features, mask)
    pooled.sum().backward()
    assert not pooled.any()
    assert features.grad.isfinite().all()
    assert mask.grad.isfinite().all()


def test_pooling_half_precision_features_over_many_pixels_does_not_overflow():
    features = torch.full((1, 2, 300, 300), 100.0, dtype=torch.float16)
    pooled = pool(features, torch.ones(1, 1, 300, 300, dtype=torch.float16))
    torch.testing.assert_close(pooled, torch.full((1, 1, 2), 0.5**0.5), atol=1e-3, rtol=0)
