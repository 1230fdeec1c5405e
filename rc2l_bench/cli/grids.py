"""Cells and grids, as the command line asks for them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from rc2l_bench.errors import UsageError, suggest
from rc2l_bench.variants import find_methods, resolve_method

if TYPE_CHECKING:
    from rc2l_bench.config import Grid, Params


def choose_grid(params: Params, default: bool, name: str, given: list[str]) -> Grid:
    """Take a grid of params.yaml.

    Args:
        params: with the grids.
        default: whether that of `grid` was asked for.
        name: of one under `grids`, where it was asked for.
        given: options that name cells.

    Raises:
        UsageError: two grids were asked for, or cells beside a grid; there is no such grid.
    """
    if default and name:
        raise UsageError("--grid and --named-grid are two grids: give one of them")
    if given:
        raise UsageError(
            f"{given[0]}: a grid has its cells from params.yaml: leave {', '.join(given)} out, or give --method and "
            "--split without a grid"
        )
    if name and name not in params.grids:
        raise UsageError(f"params.yaml: grids has no '{name}': {suggest(name, params.grids)}")
    return params.grids[name] if name else params.grid


def combine_cells(datasets: list[str], splits: list[str], methods: list[str], seeds: list[int]) -> list[dict[str, str]]:
    """Combine names to cells, each once; seeds as text, because they fill in templates as DVC's matrix does.

    Raises:
        UsageError: a data set, a split or a method is unknown, or a name could not be one.
    """
    from rc2l_bench.bounds import check_name
    from rc2l_bench.data.datasets.registry import names
    from rc2l_bench.data.split_import import check_split

    known = names()
    for kind, given in (("dataset", datasets), ("split", splits)):
        for name in given:
            check_name(kind, name)
    for name in datasets:
        if name not in known:
            raise UsageError(f"unknown dataset '{name}': {suggest(name, known)}")
        for one in splits:
            check_split(name, one)
    # All names are resolved before anything runs: the last of many methods must not turn out to be misspelt in an hour.
    ids = [resolve_method(name, find_methods()) for name in methods]
    # A dict, not a set: cells keep the order in which they were given.
    cells = dict.fromkeys(itertools.product(datasets, splits, ids, map(str, seeds)))
    return [dict(zip(("dataset", "split", "method", "seed"), cell, strict=True)) for cell in cells]
