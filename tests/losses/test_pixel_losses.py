"""Losses and pseudo-labels against values worked out by hand, or pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rc2l_bench.losses.pixel_losses import (
    SUPERVISED,
    contrast,
    cross_entropy,
    entropy,
    ohem_cross_entropy,
    percentile,
    pseudo_label,
    reweighted_cross_entropy,
    squared_error,
)
from rc2l_bench.nets.memory_bank import draw, nth
from rc2l_bench.types import IGNORE


def odds(*rows: list[float]) -> Tensor:
    """Logits (1, K, 1, n) of n pixels whose softmax is given row by row."""
    return torch.tensor(rows).log().T[None, :, None]


def labels(*values: int) -> Tensor:
    return torch.tensor(values)[None, None]


def everywhere(label: Tensor) -> Tensor:
    return torch.ones_like(label, dtype=torch.bool)


def random_case(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 4, (2, 6, 5), generator=generator)
    label[torch.rand(2, 6, 5, generator=generator) < 0.2] = IGNORE
    return torch.randn(2, 4, 6, 5, generator=generator), label


def pixel_losses(logits: Tensor, label: Tensor) -> list[tuple[float, float]]:
    """Probability of the truth and cross-entropy of every labelled pixel, one at a time."""
    out = []
    for b, y, x in (label != IGNORE).nonzero().tolist():
        values = [math.exp(float(v)) for v in logits[b, :, y, x]]
        probability = values[int(label[b, y, x])] / sum(values)
        out.append((probability, -math.log(probability)))
    return out


def test_cross_entropy_is_the_mean_over_labelled_pixels() -> None:
    logits, label = random_case()
    found = [loss for _, loss in pixel_losses(logits, label)]
    assert float(cross_entropy(logits, label)) == pytest.approx(sum(found) / len(found), rel=1e-5)


def test_cross_entropy_over_more_pixels_counts_unlabelled_ones_as_zero() -> None:
    logits = odds([0.5, 0.5], [0.9, 0.1], [0.2, 0.8])
    label = labels(0, IGNORE, 1)
    expected = (math.log(2) - math.log(0.8)) / 3
    assert float(cross_entropy(logits, label, over=everywhere(label))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", sorted(SUPERVISED))
def test_a_supervised_loss_without_labels_is_zero_with_a_zero_gradient(name: str) -> None:
    logits, label = random_case()
    logits.requires_grad_()
    loss = SUPERVISED[name](logits, torch.full_like(label, IGNORE))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_ohem_keeps_the_pixels_at_or_below_the_threshold() -> None:
    logits, label = random_case()
    kept = [loss for probability, loss in pixel_losses(logits, label) if probability <= 0.3]
    assert 0 < len(kept) < (label != IGNORE).sum()
    found = ohem_cross_entropy(logits, label, threshold=0.3, min_kept=1)
    assert float(found) == pytest.approx(sum(kept) / len(kept), rel=1e-5)


def test_ohem_raises_the_threshold_until_enough_pixels_are_kept() -> None:
    logits, label = random_case()
    hardest = sorted(pixel_losses(logits, label))[:20]
    found = ohem_cross_entropy(logits, label, threshold=0.01, min_kept=20)
    assert float(found) == pytest.approx(sum(loss for _, loss in hardest) / 20, rel=1e-5)


def test_ohem_with_fewer_pixels_than_it_should_keep_is_cross_entropy() -> None:
    logits, label = random_case()
    assert float(ohem_cross_entropy(logits, label)) == pytest.approx(float(cross_entropy(logits, label)), rel=1e-6)


def test_a_pseudo_label_needs_confidence_and_validity() -> None:
    logits = odds([0.9, 0.1], [0.4, 0.6], [0.05, 0.95], [0.95, 0.05])
    valid = torch.tensor([[[True, True, True, False]]])
    assert pseudo_label(logits, valid, 0.8).tolist() == [[[0, IGNORE, 1, IGNORE]]]
    assert pseudo_label(logits, valid).tolist() == [[[0, 1, 1, IGNORE]]]


def test_no_gradient_flows_through_a_pseudo_label() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    assert not pseudo_label(logits, torch.ones(1, 2, 2, dtype=torch.bool), 0.5).requires_grad


def test_entropy_is_that_of_the_class_distribution() -> None:
    found = entropy(odds([0.5, 0.5], [0.9, 0.1], [1 - 1e-30, 1e-30]))[0, 0]
    expected = [math.log(2), -0.9 * math.log(0.9) - 0.1 * math.log(0.1), 0.0]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.25, 1.0), (0.5, 2.0), (0.51, 3.0), (1.0, 4.0)])
def test_a_percentile_is_the_nearest_rank_among_valid_values(share: float, expected: float) -> None:
    values = torch.tensor([[3.0, 1.0, -7.0, 4.0, 2.0]])
    assert percentile(values, values > 0, share) == expected


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.6, 0.7, 0.8, 0.9])
def test_a_percentile_keeps_exactly_its_share(share: float) -> None:
    values = torch.rand(1, 100, generator=torch.Generator().manual_seed(0))
    assert (values <= percentile(values, everywhere(values), share)).sum() == round(share * 100)


def test_a_percentile_of_nothing_is_infinite() -> None:
    assert percentile(torch.rand(2, 3), torch.zeros(2, 3, dtype=torch.bool), 0.5) == torch.inf


def test_reweighting_makes_up_for_dropped_pixels() -> None:
    logits = odds([0.5, 0.5], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7])
    label, valid = labels(0, IGNORE, IGNORE, 1), torch.tensor([[[True, True, False, True]]])
    expected = 3 / 2 * (math.log(2) - math.log(0.7)) / 2
    assert float(reweighted_cross_entropy(logits, label, valid)) == pytest.approx(expected, rel=1e-6)
    assert reweighted_cross_entropy(logits, torch.full_like(label, IGNORE), valid) == 0


def test_squared_error_sums_over_classes_and_averages_over_valid_pixels() -> None:
    target = odds([1.0, 0.0], [0.5, 0.5], [0.0, 1.0]).exp()
    valid = torch.tensor([[[True, True, False]]])
    found = squared_error(odds([0.6, 0.4], [0.5, 0.5], [0.9, 0.1]), target, valid)
    assert float(found) == pytest.approx((0.4**2 + 0.4**2) / 2, rel=1e-5)


def test_contrast_equals_its_formula_anchor_by_anchor() -> None:
    generator = torch.Generator().manual_seed(0)
    anchor, positive, negative = (
        torch.nn.functional.normalize(torch.randn(*size, generator=generator), dim=-1)
        for size in ((2, 3, 4), (2, 4), (2, 3, 5, 4))
    )
    found = contrast(anchor, positive, negative, 0.5)
    for k in range(2):
        losses = []
        for a in range(3):
            near = math.exp(float(anchor[k, a] @ positive[k]) / 0.5)
            far = [math.exp(float(anchor[k, a] @ negative[k, a, n]) / 0.5) for n in range(5)]
            losses.append(-math.log(near / (near + sum(far))))
        assert float(found[k]) == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_draws_fall_on_true_columns_and_reach_each_of_them() -> None:
    torch.manual_seed(0)
    mask = torch.tensor([[False, True, False, True], [True, False, False, False], [False] * 4])
    found = draw(mask, 100)
    assert set(found[0].tolist()) == {1, 3}
    assert set(found[1].tolist()) == {0}
    assert found.shape == (3, 100)
    assert ((found >= 0) & (found < 4)).all()


def test_draws_from_nothing_at_all_are_harmless() -> None:
    assert draw(torch.zeros(2, 3, dtype=torch.bool), 4).shape == (2, 4)


def test_the_largest_unit_number_stays_inside_even_where_counts_are_not_floats() -> None:
    count = 2**24 + 3  # float32 rounds it up
    assert nth(torch.tensor([1 - 2**-24]), torch.tensor([count])) == count - 1
