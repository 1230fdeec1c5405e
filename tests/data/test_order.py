from __future__ import annotations

import collections
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rc2l_bench.data.order import Order, Permutation

SURE = 1e-4
"""A test of uniformity that is right fails so rarely; seeds are fixed, so it never fails by chance twice."""


@given(length=st.integers(1, 3000), seed=st.integers(0, 2**64 - 1))
def test_every_number_comes_exactly_once(length, seed):
    found = Permutation(length, seed)(np.arange(length))
    assert np.array_equal(np.sort(found), np.arange(length))


@pytest.mark.parametrize("length", [2**31 - 1, 2**40 + 3, 2**62])
def test_no_two_places_of_a_huge_pool_share_a_number(length):
    places = np.unique(np.random.default_rng(0).integers(0, length, 5000))
    found = Permutation(length, 7)(places)
    assert len(np.unique(found)) == len(places)
    assert found.min() >= 0
    assert found.max() < length


def test_places_may_be_asked_for_one_by_one():
    permutation = Permutation(1000, 3)
    together = permutation(np.arange(1000))
    assert [permutation(np.array([place])).item() for place in range(1000)] == together.tolist()


@pytest.mark.parametrize("length", [3, 4, 5, 6])
def test_all_permutations_of_a_few_samples_are_equally_likely(length):
    draws = math.factorial(length) * 40
    found = collections.Counter(tuple(Permutation(length, seed)(np.arange(length)).tolist()) for seed in range(draws))
    assert len(found) == math.factorial(length)
    assert stats.chisquare(list(found.values())).pvalue > SURE


@pytest.mark.parametrize("length", [7, 13, 32])
def test_all_pairs_of_neighbours_are_equally_likely(length):
    pairs = length * (length - 1)
    counts = np.zeros((length, length), np.int64)
    for seed in range(pairs * 20):
        counts[tuple(Permutation(length, seed)(np.array([2, 3])))] += 1
    assert counts.trace() == 0
    assert stats.chisquare(counts[~np.eye(length, dtype=bool)]).pvalue > SURE


def test_a_pass_over_a_large_pool_leaves_no_trace_of_the_old_order():
    found = Permutation(20_000, 1)(np.arange(20_000))
    cells = np.histogram2d(np.arange(20_000), found, bins=20)[0]
    assert stats.chisquare(cells.ravel()).pvalue > SURE
    # The steps between neighbours of a uniform permutation of n have a triangular law: |step| < n/2 for 3 of 4.
    assert abs((np.abs(np.diff(found)) < 10_000).mean() - 0.75) < 0.015


def test_passes_follow_one_another_and_differ():
    order = Order(10, 0, "labelled")
    passes = [tuple(order.take(10 * number, 10).tolist()) for number in range(50)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len(set(passes)) == 50


@given(length=st.integers(1, 40), first=st.integers(0, 10**12), counts=st.lists(st.integers(0, 30), max_size=6))
def test_the_stream_is_the_same_however_it_is_cut(length, first, counts):
    whole = Order(length, 5, "x").take(first, sum(counts))
    order, parts = Order(length, 5, "x"), []
    for start, count in zip(itertools.accumulate(counts, initial=first), counts, strict=False):
        parts += order.take(start, count).tolist()
    assert parts == whole.tolist()


def test_a_batch_larger_than_the_pool_takes_every_number_as_often():
    found = Order(3, 0, "x").take(0, 12).tolist()
    assert collections.Counter(found) == {0: 4, 1: 4, 2: 4}


def test_seed_and_stream_choose_the_order():
    first = Order(1000, 0, "labelled").take(0, 100).tolist()
    assert Order(1000, 1, "labelled").take(0, 100).tolist() != first
    assert Order(1000, 0, "unlabelled").take(0, 100).tolist() != first


def test_the_order_is_the_same_on_every_machine_and_in_every_process():
    code = (
        "from rc2l_bench.data.order import Order; print(Order(10**9, 3, 'unlabelled').take(5 * 10**9 - 3, 6).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[908750094, 867896192, 788053901, 389417198, 707491325, 665460412]"
    assert (
        str(Order(10**9, 3, "unlabelled").take(5 * 10**9 - 3, 6).tolist())
        == "[908750094, 867896192, 788053901, 389417198, 707491325, 665460412]"
    )


def test_a_place_in_a_huge_pool_needs_no_memory_of_its_size():
    import tracemalloc

    tracemalloc.start()
    Order(10**15, 0, "x").take(10**17, 16)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
