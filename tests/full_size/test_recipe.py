"""The smallest recipe at full size; `check_recipes.py` has the others."""

from __future__ import annotations

import full_size_data
import pytest

pytestmark = pytest.mark.slow


def test_the_smallest_recipe_of_voc_learns_and_is_scored_at_full_size(tmp_path):
    full_size_data.check(full_size_data.carry_out(tmp_path, "voc_r50_321", "baselines/supervised_region"))
