"""Which grid is meant."""

from __future__ import annotations

import pytest
import tiny_data
from commands_data import refused

from rc2l_bench.cli.grids import choose_grid, combine_cells
from rc2l_bench.config import Params, load

PARAMS = load(Params, tiny_data.ROOT / "params.yaml")


@pytest.fixture(autouse=True)
def checkout(monkeypatch):
    monkeypatch.chdir(tiny_data.ROOT)


def test_a_grid_is_that_of_params_or_one_by_its_name():
    assert choose_grid(PARAMS, default=True, name="", given=[]) == PARAMS.grid
    assert choose_grid(PARAMS, default=False, name="medium", given=[]) == PARAMS.grids["medium"]


@pytest.mark.parametrize("option", [["--method", "cps"], ["--split", "1_4"], ["--dataset", "camvid"], ["--seed", "0"]])
@pytest.mark.parametrize("grid", [["--grid"], ["--named-grid", "medium"]])
def test_cells_beside_a_grid_are_refused(grid, option):
    assert f"{option[0]}: a grid has its cells from params.yaml" in refused("run", "--dry-run", *grid, *option)


def test_two_grids_are_refused():
    assert "--grid and --named-grid are two grids" in refused("run", "--grid", "--named-grid", "medium")


def test_cells_are_every_combination_each_once_in_the_order_given():
    cells = combine_cells(["shapes"], ["1_4", "1_16", "1_4"], ["cps"], [1, 0])
    found = [(cell["split"], cell["method"], cell["seed"]) for cell in cells]
    assert found == [(split, "baselines/cps", seed) for split in ("1_4", "1_16") for seed in ("1", "0")]
