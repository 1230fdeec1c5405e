"""Contrastive terms alone, and the power laws that are fitted to them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from perf.scaling import PAPER, sampled_contrast
from rc2l_bench.cost.scaling import (
    TEMPERATURE,
    dense_contrast,
    factor,
    fit,
    fits,
    learn,
    measure,
    region_contrast,
    side_of,
    weigh,
)
from rc2l_bench.cost.worst_case import worst_case
from rc2l_bench.run.allocations import peak_of

PIXELS = np.array([100.0, 400.0, 1600.0, 6400.0])
SAMPLED = sampled_contrast(PAPER.model_copy(update={"bank": (2000, 1000)}))


def test_a_power_law_is_found():
    assert fit(PIXELS, 3 * PIXELS**1.7) == pytest.approx((1.7, 1.7, 1.7))


def test_the_interval_holds_the_exponent_in_as_many_cases_as_it_says():
    noise = np.random.default_rng(0).normal(0, 0.1, (400, len(PIXELS)))
    found = [fit(PIXELS, PIXELS * np.exp(one)) for one in noise]
    assert np.mean([one.low <= 1 <= one.high for one in found]) == pytest.approx(0.95, abs=0.03)


def test_sizes_that_are_missing_are_left_out_of_a_fit():
    assert fit([*PIXELS, 9999.0], [*PIXELS, math.nan]).exponent == pytest.approx(1)
    with pytest.raises(ValueError, match="three sizes, got 2"):
        fit(PIXELS[:2], PIXELS[:2])


def test_the_dense_contrast_is_that_of_its_definition():
    torch.manual_seed(0)
    work = dense_contrast(33)
    features, teacher, label = (x.detach().flatten(-2) for x in work.known)
    total, count = 0.0, 0
    for s, t, y in zip(F.normalize(features, dim=1), F.normalize(teacher, dim=1), label, strict=True):
        for pixel in range(s.shape[1]):
            log = torch.log_softmax(s[:, pixel] @ t / TEMPERATURE, 0)
            total -= float(log[y == y[pixel]].mean())
            count += 1
    assert work.loss().item() == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize("term", [region_contrast, dense_contrast, SAMPLED])
def test_terms_need_the_memory_that_was_estimated(term):
    with worst_case():
        work = term(193)
        measured = peak_of(lambda: learn(work))
    assert weigh(term, 193)[0] == pytest.approx(measured, rel=0.1)


def test_regions_grow_with_the_pixels_and_dense_contrast_with_their_square():
    crops = (257, 513, 1025)
    pixels = [side_of(crop) ** 2 for crop in crops]
    dense, region = (fit(pixels, [weigh(term, c)[0] for c in crops]) for term in (dense_contrast, region_contrast))
    assert 1.9 < dense.exponent < 2.1
    assert region.exponent < 1.05


def test_what_does_not_fit_is_weighed_but_not_timed():
    table = measure({"dense": dense_contrast}, crops=(33, 65, 129), most_bytes=10_000_000)
    assert table["seconds"].notna().tolist() == [True, True, False]
    assert (table["bytes"].diff().dropna() > 0).all()
    assert fits(table)["quantity"].tolist() == ["bytes", "flops"]


def test_the_factor_is_that_of_one_crop():
    table = pd.DataFrame({"term": ["a", "b", "a"], "crop": [65, 65, 513], "bytes": [30, 10, 7]})
    assert factor(table, 65, "a", "b") == 3
