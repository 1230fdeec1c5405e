from __future__ import annotations

import math

import numpy as np
import region_reference as reference
import torch

from rc2l_bench.losses.regions import (
    bounded,
    label_regions,
    mask_probability,
    number_regions,
    of_query,
    pool,
)
from rc2l_bench.nets.lattice import Lattice

K = 4


def test_bounded_makes_any_logits_finite():
    wild = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 2.5])
    assert bounded(wild).tolist() == [0, 1e4, -1e4, 1e4, -1e4, 2.5]
    assert bounded(wild.to(torch.float16)).dtype == torch.float32


def test_bounded_logits_of_double_precision_stay_so():
    assert bounded(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


def test_mask_probabilities_are_zero_outside_of_v_and_where_there_is_no_number():
    mask = torch.tensor([0.0, 3.0, float("nan"), 2.0]).view(1, 1, 1, 4)
    valid = torch.tensor([[[True, True, True, False]]])
    expected = torch.tensor([0.5, 1 / (1 + math.exp(-3)), 0, 0])
    torch.testing.assert_close(mask_probability(mask, valid).flatten(), expected)


def test_values_of_queries_are_picked_by_region():
    x = torch.arange(2 * 3 * 2).view(2, 3, 2)
    found = of_query(x, torch.tensor([[2, 0], [1, -1]]))
    assert found[0].tolist() == [[4, 5], [0, 1]]
    assert found[1, 0].tolist() == [8, 9]


def test_hardened_regions_are_sure_of_their_class():
    index = torch.tensor([[[0, 1, -1]]])
    regions = number_regions(index, torch.tensor([[[0.6, 0.4], [0.1, 0.9]]]), index >= 0).harden()
    assert regions.probability.tolist() == [[[1, 0], [0, 1]]]


def test_empty_slots_go_behind_the_others():
    index = torch.tensor([[[5, 5], [2, -1]], [[7, 7], [7, 7]]])
    probability = torch.eye(8).expand(2, -1, -1)
    regions = number_regions(index, probability, index >= 0)
    assert regions.present.sum(1).tolist() == [2, 1]
    regions = regions.first(2)
    assert regions.present.tolist() == [[True, True], [True, False]]
    assert regions.label.tolist() == [[2, 5], [7, 0]]
    assert regions.index.tolist() == [[[1, 1], [0, -1]], [[0, 0], [0, 0]]]
    assert regions.probability[1, 1].sum() == 0


def test_a_batch_without_regions_has_empty_slots_alone():
    regions = number_regions(torch.full((2, 3, 3), -1), torch.eye(K).expand(2, -1, -1), torch.ones(2, 3, 3).bool())
    assert regions.present.tolist() == [[False] * K] * 2
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
    assert regions.present.tolist() == [[True, True, False, False]]
    assert not regions.mask()[0, 1].any()


def test_classes_of_regions_ignore_padding():
    label = torch.tensor([[[1, 1]], [[0, 3]]])
    assert label_regions(label, K, "excluded").classes().tolist() == [
        [False, True, False, False],
        [True, False, False, True],
    ]


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
