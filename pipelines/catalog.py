"""Stage `catalog`: every sample checked and counted. `python -m pipelines.catalog camvid data/raw/camvid out.csv`."""

from __future__ import annotations

from pathlib import Path

import typer

from rc2l_bench.console import guarded
from rc2l_bench.data import catalog
from rc2l_bench.data.datasets.registry import load_dataset


@guarded
def main(dataset: str, raw: Path, out: Path) -> None:
    """Decodes every image and mask once and writes one row for each.

    Args:
        dataset: its name.
        raw: folder that the stage `fetch` filled.
        out: the table.
    """
    catalog.write(catalog.make(load_dataset(dataset), raw), out)


if __name__ == "__main__":
    typer.run(main)
