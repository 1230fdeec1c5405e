"""Stage `pool`: pack what all splits share: training images without labels, validation and test with them."""

from __future__ import annotations

from pathlib import Path

import typer

from rc2l_bench.config import Params, load
from rc2l_bench.console import guarded
from rc2l_bench.data import packing, pool_index
from rc2l_bench.data.datasets.pool_config import StreamConfig
from rc2l_bench.data.datasets.registry import load_dataset


@guarded
def main(dataset: str, raw: Path, pool: Path, val: Path, test: Path, extra: Path) -> None:
    """Pack a data set.

    Labels of training images are packed by the stage `label`, split by split, so that nothing is learnt from others.

    Args:
        dataset: its name.
        raw: folder that the stage `fetch` filled.
        pool: shards of all training images; no byte of a label is in them.
        val: shards of the validation part.
        test: shards of the test part, without samples where the data set has none.
        extra: lists of further unlabelled images, which stay where they are; most data sets have none.
    """
    source = load_dataset(dataset)
    config = load(Params, Path("params.yaml")).shard
    count = config.samples_per_shard
    packing.write(pool, source.images(raw, "train"), source.meta(), "train", count, with_masks=False)
    # A part without samples gets its folder, too: DVC expects every output of a stage.
    for part, folder in (("val", val), ("test", test)):
        packing.write(folder, source.samples(raw, part), source.meta(), part, count, with_masks=True)
    places = source.pool if isinstance(source.pool, list) else []
    stream = source.pool if isinstance(source.pool, StreamConfig) else None
    pool_index.index_sets(places, stream, source.meta(), extra, round(config.mirror_gb * 1e9))


if __name__ == "__main__":
    typer.run(main)
