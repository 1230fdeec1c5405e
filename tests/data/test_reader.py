from __future__ import annotations

import collections

import numpy as np
import pytest
import tiny_data
from shards_data import META, make_shards, picture

from rc2l_bench.data import reader
from rc2l_bench.data.datasets.base import Sample
from rc2l_bench.data.decode import encode_image
from rc2l_bench.data.geometry import Geometry
from rc2l_bench.data.packing import write
from rc2l_bench.data.reader import EvaluationReader, Stream, TrainingReader
from rc2l_bench.data.selection import everything
from rc2l_bench.data.shards import Encoded, Shards


@pytest.fixture
def shards(tmp_path) -> Shards:
    return make_shards(tmp_path / "shards", 10)


def training(shards: Shards, cache_mb: int = 0, **changes) -> TrainingReader:
    protocol = tiny_data.protocol(**{"crop": [24, 32], **changes})
    stream = Stream(name="x", shards=shards, selection=everything(len(shards)), batch=4)
    return TrainingReader([stream], Geometry(protocol, 0), cache_mb, None, None)


def evaluating(shards: Shards, cache_mb: int = 0) -> EvaluationReader:
    return EvaluationReader(shards, [np.arange(first, min(first + 3, 10)) for first in range(0, 10, 3)], cache_mb, None)


def test_windows_are_cut_from_the_image_and_the_mask_that_belong_together(shards):
    (windows,) = training(shards, weak={"scale": [1.0, 1.0], "flip": 0.0}).work(0)
    for window in windows:
        image, mask = picture(int(window.id[-3:]))
        rows, columns = window.frame.rows, window.frame.columns
        np.testing.assert_array_equal(window.pixels, image[rows.window, columns.window])
        np.testing.assert_array_equal(window.label[rows.inside, columns.inside], mask)


def test_the_pool_has_no_labels(tmp_path):
    pool = make_shards(tmp_path / "pool", 6, masks=False)
    assert all(window.label is None for step in range(3) for window in training(pool).work(step)[0])
    groups = EvaluationReader(pool, [np.arange(6)], 0, None).work(0)
    assert all(group.label is None for group in groups)


def test_with_a_cache_every_sample_is_decoded_once(shards, monkeypatch):
    read = collections.Counter()
    original = Encoded.decode_image
    monkeypatch.setattr(Encoded, "decode_image", lambda self: (read.update([self.entry.id]), original(self))[1])
    for step in range(12):
        training(shards, cache_mb=1).work(step)
    evaluating(shards, cache_mb=1).work(0)
    assert read == dict.fromkeys(shards.ids, 1)


def test_the_files_of_a_step_are_read_together(shards, monkeypatch):
    asked = []
    original = Shards.read
    monkeypatch.setattr(Shards, "read", lambda self, places: (asked.append(list(places)), original(self, places))[1])
    training(shards).work(0)
    assert [len(places) for places in asked] == [4]


def test_a_sample_that_comes_twice_in_a_step_is_read_once(tmp_path):
    few = make_shards(tmp_path / "few", 2)
    (windows,) = training(few).work(0)
    assert collections.Counter(window.id for window in windows) == dict.fromkeys(few.ids, 2)


def test_a_cache_changes_nothing_but_the_reading(shards):
    expected = [training(Shards(shards.folder)).work(step) for step in range(6)]
    kept = Shards(shards.folder)
    for cache_mb in (1, 100):
        for step, (windows,) in enumerate(expected):
            for mine, theirs in zip(windows, training(kept, cache_mb).work(step)[0], strict=True):
                assert mine.id == theirs.id
                np.testing.assert_array_equal(mine.pixels, theirs.pixels)
                np.testing.assert_array_equal(mine.label, theirs.label)


def test_the_cache_keeps_to_its_room(shards, monkeypatch, tmp_path):
    monkeypatch.setattr(reader, "_KEPT", type(reader._KEPT)())
    meta = {**META, "canvas": [1024, 1024]}
    data = encode_image(np.zeros((512, 512, 3), np.uint8))  # 0.75 MiB decoded
    samples = [Sample(id=str(number), part="train", image=data, suffix="png", mask=None) for number in range(5)]
    write(tmp_path / "large", samples, meta, "train", 4, with_masks=False)
    large = Shards(tmp_path / "large")
    EvaluationReader(large, [np.arange(5)], 2, None).work(0)
    assert len(reader._KEPT[large].samples) == 2
    training(shards, cache_mb=2).work(0)
    assert sum(kept.size for kept in reader._KEPT.values()) <= 2 << 20
    del large
    assert len(reader._KEPT) == 1
