"""Stage `audit`: pack some unlabelled training images with their masks, to score pseudo-labels on."""

from __future__ import annotations

from pathlib import Path

import typer

from rc2l_bench.config import Params, load
from rc2l_bench.console import guarded
from rc2l_bench.data import catalog, packing, splits
from rc2l_bench.data.audit import choose_audited
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.files import link_equal_files


@guarded
def main(dataset: str, raw: Path, table: Path, split: Path, out: Path) -> None:
    """Pack the audited images of a split.

    Args:
        dataset: its name.
        raw: folder that the stage `fetch` filled.
        table: what the stage `catalog` wrote.
        split: what the stage `split` wrote.
        out: folder of the shards; beside it lie those of other seeds.
    """
    source = load_dataset(dataset)
    count = load(Params, Path("params.yaml")).shard.samples_per_shard
    wanted = set(choose_audited(splits.read(split), catalog.read(table)))
    samples = source.samples(raw, "train", only=wanted) if wanted else iter(())
    packing.write(out, samples, source.meta(), "train", count, with_masks=True)
    # Seeds have many of these images in common, and a published list all of them.
    link_equal_files(out, "seed*")


if __name__ == "__main__":
    typer.run(main)
