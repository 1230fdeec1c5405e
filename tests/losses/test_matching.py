from __future__ import annotations

import numpy as np
import pytest
import region_reference as reference
import torch

from rc2l_bench.losses.matching import SetLossConfig, assign, match_regions, matching_cost
from rc2l_bench.losses.regions import label_regions
from rc2l_bench.nets.lattice import PIXELS
from rc2l_bench.nets.region_net import Prediction

K = 4
WEIGHTS = SetLossConfig(class_weight=1.0, focal_weight=20.0, dice_weight=1.0, no_object=0.1, ignored="excluded")


def scene(seed=0, queries=5):
    torch.manual_seed(seed)
    logits, mask = torch.randn(3, queries, K + 1) * 2, torch.randn(3, queries, 6, 7) * 3
    label = torch.randint(0, 3, (3, 6, 7))
    label[0, :2] = 255
    label[1] = 1
    return logits, mask, label


@pytest.mark.parametrize("ignored", ["excluded", "background"])
def test_costs_equal_maskformers_definition(ignored):
    logits, mask, label = scene()
    regions = label_regions(label, K, ignored)
    cost = matching_cost(logits, mask, regions, WEIGHTS)
    assert cost.dtype == torch.float32
    for b in range(3):
        classes, masks = reference.truth_masks(label[b].numpy())
        valid = regions.valid[b].numpy()
        expected = reference.costs(logits[b].double().numpy(), mask[b].double().numpy(), classes, masks, valid)
        np.testing.assert_allclose(cost[b][:, regions.present[b]], expected, atol=2e-6)


def test_the_assignment_is_the_cheapest_of_all():
    cost = torch.randn(3, 2, 5, 3)
    present = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    match = assign(cost, present)
    for b in range(3):
        columns = present[b].nonzero().flatten()
        for s in range(2):
            expected = torch.full((3,), -1)
            expected[columns] = torch.tensor(reference.cheapest(cost[b, s][:, columns].numpy()), dtype=torch.int64)
            assert torch.equal(match[b, s], expected)


def test_regions_that_outnumber_the_queries_are_left_over():
    match = assign(torch.tensor([[[[3.0, 1.0, 2.0], [1.0, 3.0, 2.5]]]]), torch.ones(1, 3).bool())
    assert match.tolist() == [[[1, 0, -1]]]


def test_no_query_is_given_two_regions():
    logits, _, label = scene(queries=8)
    seen = Prediction(
        logits=logits[:, None], embedding=torch.randn(3, 1, 8, 2), features=torch.randn(3, 2, 6, 7), lattice=PIXELS
    )
    match = match_regions(seen, label_regions(label, K, "excluded"), WEIGHTS, [-1])
    for row in match[:, 0]:
        taken = row[row >= 0]
        assert len(taken.unique()) == len(taken)


def test_the_batch_moves_to_the_cpu_once(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda x: calls.append(x.shape) or x)
    assign(torch.randn(6, 3, 5, 2), torch.ones(6, 2).bool())
    assert calls == [(6 * 3 * 5 * 2,)]


def test_pixels_without_a_label_change_no_cost_when_they_are_excluded():
    logits, mask, label = scene()
    changed = mask + 50 * (label == 255)[:, None]
    regions = label_regions(label, K, "excluded")
    assert torch.equal(matching_cost(logits, mask, regions, WEIGHTS), matching_cost(logits, changed, regions, WEIGHTS))
    regions = label_regions(label, K, "background")
    assert not torch.allclose(
        matching_cost(logits, mask, regions, WEIGHTS), matching_cost(logits, changed, regions, WEIGHTS)
    )


@pytest.mark.parametrize("value", [1e4, -1e4, 1e30, float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_costs_are_finite_for_any_logits(value, dtype):
    logits, mask, label = scene()
    logits[:, 0, :2] = value
    mask[:, 1] = value
    regions = label_regions(label, K, "excluded")
    with torch.autocast("cpu", dtype if dtype != torch.float32 else torch.bfloat16, enabled=dtype != torch.float32):
        cost = matching_cost(logits.to(dtype), mask.to(dtype), regions, WEIGHTS)
    assert cost.dtype == torch.float32
    assert cost.isfinite().all()
    assert (assign(cost[:, None], regions.present)[:, 0] >= 0).sum() == regions.present.sum()
