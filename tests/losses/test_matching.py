from __future__ import annotations

import numpy as np
import pytest
import region_reference as reference
import torch
import torch.nn.functional as F

from rc2l_bench.losses.matching import Fetch, Matching, SetLossConfig, assign, match_regions, matching_cost
from rc2l_bench.losses.regions import Regions, label_regions
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
    cost = torch.randn(3, 2, 5, 3).numpy()
    present = np.array([[True, True, True], [True, False, True], [False, False, False]])
    query = assign(cost, present)
    for b in range(3):
        columns = present[b].nonzero()[0]
        for s in range(2):
            expected = np.full(3, -1)
            expected[columns] = reference.cheapest(cost[b, s][:, columns])
            assert query[b, s].tolist() == expected.tolist()


def test_regions_that_outnumber_the_queries_are_left_over():
    query = assign(np.array([[[[3.0, 1.0, 2.0], [1.0, 3.0, 2.5]]]]), np.ones((1, 3), bool))
    assert query.tolist() == [[[1, 0, -1]]]


def test_no_query_is_given_two_regions():
    logits, _, label = scene(queries=8)
    seen = Prediction(
        logits=logits[:, None], embedding=torch.randn(3, 1, 8, 2), features=torch.randn(3, 2, 6, 7), lattice=PIXELS
    )
    match = match_regions(seen, label_regions(label, K, "excluded"), WEIGHTS, [-1])
    for row in match.query[:, 0]:
        taken = row[row >= 0]
        assert len(taken.unique()) == len(taken)


def padded(*rows):
    """Regions with the classes of some rows, -1 = padding, and random costs of two layers and five queries."""
    label = torch.tensor(rows)
    index = torch.where(label >= 0, torch.arange(label.shape[1]), -1)[:, None]  # a pixel each
    regions = Regions(
        index=index, valid=index >= 0, present=label >= 0, label=label.clamp(min=0),
        probability=F.one_hot(label.clamp(min=0), K) * (label >= 0)[..., None],
    )  # fmt: skip
    return regions, torch.randn(len(rows), 2, 5, label.shape[1])


def test_batches_are_matched_each_as_if_it_were_alone_after_one_wait(monkeypatch):
    waits, wait = [], Fetch.wait
    monkeypatch.setattr(Fetch, "wait", lambda fetch: waits.append(fetch) or wait(fetch))
    batches = padded([2, 0, -1, -1], [1, -1, -1, -1]), padded([1, 1, 3], [-1, -1, -1], [0, 3, -1])
    matching = Matching(*batches)
    assert not waits
    second, first = matching.solve(1), matching.solve(0)
    assert len(waits) == 1
    for match, (regions, cost) in zip((first, second), batches, strict=True):
        most = int(regions.present.sum(1).max())
        expected = assign(cost.numpy(), regions.present.numpy())[..., :most]
        assert match.query.tolist() == expected.tolist()
        assert match.regions.present.tolist() == regions.present[:, :most].tolist()


def test_the_host_knows_where_regions_are_and_of_how_many_classes():
    match = Matching(padded([1, 1, 3, -1], [-1, -1, -1, -1], [0, 2, -1, -1])).solve(0)
    assert (match.image.tolist(), match.region.tolist()) == ([0, 0, 0, 2, 2], [0, 1, 2, 0, 1])
    assert match.classes == 2
    assert Matching(padded([0, 0, 0])).solve(0).classes == 1


def test_without_regions_one_slot_is_left():
    match = Matching(padded([-1, -1, -1])).solve(0)
    assert (match.query.tolist(), match.classes) == ([[[-1], [-1]]], 1)
    assert match.regions.present.tolist() == [[False]]
    assert not len(match.image)


def test_costs_of_padding_change_nothing():
    regions, cost = padded([2, 0, -1], [1, -1, -1])
    wild = cost.masked_fill(~regions.present[:, None, None], -1e6)
    assert torch.equal(Matching((regions, cost)).solve(0).query, Matching((regions, wild)).solve(0).query)


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
    assert (Matching((regions, cost[:, None])).solve(0).query >= 0).sum() == regions.present.sum()
