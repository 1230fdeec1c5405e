"""Stage `split`: choose which training images are labelled for a seed, by a draw or from a published list."""

from __future__ import annotations

from pathlib import Path

import typer

from rc2l_bench.config import Params, load
from rc2l_bench.console import guarded
from rc2l_bench.data import catalog, splits
from rc2l_bench.data.split_import import resolve


@guarded
def main(dataset: str, split: str, seed: int, table: Path, out: Path) -> None:
    """Write a split after the gate has found no image on two sides.

    Args:
        dataset: its name.
        split: name of the split: `1_16`, `full`, or a published list.
        seed: of the cell; another one has another draw of a drawn split, where `split.draws` says so.
        table: what the stage `catalog` wrote.
        out: the split, JSON.
    """
    config = load(Params, Path("params.yaml")).split
    splits.write(resolve(dataset, split, catalog.read(table), config, seed), out)


if __name__ == "__main__":
    typer.run(main)
