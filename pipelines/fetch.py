"""Stage `fetch`: bring the files of a data set, verified. `python -m pipelines.fetch camvid data/raw/camvid`."""

from __future__ import annotations

from pathlib import Path

import typer

from rc2l_bench.console import guarded
from rc2l_bench.data.datasets.registry import load_dataset


@guarded
def main(dataset: str, raw: Path) -> None:
    """Download, generate or find a data set; do nothing when it is there.

    Args:
        dataset: its name.
        raw: folder to fill.
    """
    load_dataset(dataset).prepare(raw)


if __name__ == "__main__":
    typer.run(main)
