"""Stage `label`: pack the labelled images of a split and a seed, with their masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

from rc2l_bench.config import Params, load
from rc2l_bench.console import guarded
from rc2l_bench.data import packing, splits
from rc2l_bench.data.datasets.base import Sample
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.errors import BenchError
from rc2l_bench.files import link_equal_files


@guarded
def main(dataset: str, raw: Path, split: Path, out: Path) -> None:
    """Pack the labelled samples of a split.

    Args:
        dataset: its name.
        raw: folder that the stage `fetch` filled.
        split: what the stage `split` wrote.
        out: folder of the shards; beside it lie those of other seeds.
    """
    source = load_dataset(dataset)
    count = load(Params, Path("params.yaml")).shard.samples_per_shard
    plan = splits.read(split)
    wanted = set(plan.labelled)
    # The split's id goes into the shards, so that a training notices labels of another split.
    samples = all_of(source.samples(raw, "train", only=wanted), wanted, dataset)
    packing.write(out, samples, source.meta(), "train", count, with_masks=True, split=plan.name, split_id=plan.id)
    # A list is the same for every seed; its masks and images need not lie on the disk several times.
    link_equal_files(out, "seed*")


def all_of(samples: Iterable[Sample], wanted: set[str], dataset: str) -> Iterator[Sample]:
    """Pass samples on, and fail in the end if one was wanted that did not come.

    Raises:
        BenchError: a sample did not come; the shards, which appear as a whole, are then not written.
    """
    missing = set(wanted)
    for sample in samples:
        missing.discard(sample.id)
        yield sample
    if missing:
        raise BenchError(f"{dataset}: has no training image '{min(missing)}', which the split counts as labelled")


if __name__ == "__main__":
    typer.run(main)
