"""Which of a model's levels serve which stride."""

from __future__ import annotations

import pytest

from rc2l_bench.nets.features import choose_levels, is_hierarchical, target_strides

PLAIN, PATCHES_OF_14 = [16] * 12, [14] * 12


@pytest.mark.parametrize(
    ("reductions", "levels"),
    [
        ([1, 2, 4, 8, 16, 32], [2, 3, 4, 5]),
        ([4, 8, 16, 32], [0, 1, 2, 3]),
        ([2, 4, 4, 8, 16, 16, 32, 64], [2, 3, 5, 6]),
    ],
)
def test_levels_are_found_by_their_strides_and_not_by_their_places(reductions, levels):
    assert is_hierarchical(reductions)
    assert target_strides(reductions) == [4, 8, 16, 32]
    assert choose_levels(reductions) == levels


@pytest.mark.parametrize(
    ("reductions", "strides", "levels"),
    [
        (PLAIN, [4, 8, 16, 32], [2, 5, 8, 11]),
        (PATCHES_OF_14, [3.5, 7, 14, 28], [2, 5, 8, 11]),
        ([16] * 6, [4, 8, 16, 32], [1, 2, 4, 5]),
        ([16] * 3, [4, 8, 16, 32], [0, 1, 2, 2]),
        ([32] * 12, [4, 8, 16, 32], [2, 5, 8, 11]),
        ([8, 16, 32], [4, 8, 16, 32], [0, 0, 1, 2]),
        ([16, 32, 64], [4, 8, 16, 32], [0, 0, 0, 1]),
        ([4, 8, 16], [4, 8, 16, 32], [0, 1, 2, 2]),
        ([7, 14, 14, 14], [3.5, 7, 14, 28], [0, 0, 2, 3]),
    ],
)
def test_where_strides_are_missing_the_levels_that_are_there_serve_them(reductions, strides, levels):
    assert not is_hierarchical(reductions)
    assert target_strides(reductions) == strides
    assert choose_levels(reductions) == levels
