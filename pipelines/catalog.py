"""Stage `catalog`: check and count every sample. `python -m pipelines.catalog camvid data/raw/camvid out.csv`."""

from __future__ import annotations

from pathlib import Path

import typer

from rc2l_bench.console import guarded
from rc2l_bench.data import catalog
from rc2l_bench.data.datasets.registry import load_dataset


@guarded
def main(dataset: str, raw: Path, out: Path) -> None:
    """Decode every image and mask once and write one row for each.

    What is wrong with a data set is found here, before anything is split or packed.

    Args:
        dataset: its name.
        raw: folder that the stage `fetch` filled.
        out: the table, CSV.
    """
    catalog.write(catalog.make(load_dataset(dataset), raw), out)


if __name__ == "__main__":
    typer.run(main)
