from __future__ import annotations

import collections
import os
import signal

import numpy as np
import psutil
import pytest
import torch
from shards_data import META, make_shards, picture

from rc2l_bench.data import loader
from rc2l_bench.data.datasets.base import Sample
from rc2l_bench.data.decode import encode_image
from rc2l_bench.data.loader import RawBatch, evaluation_batches, training_batches
from rc2l_bench.data.shards import Shards, write
from rc2l_bench.errors import BenchError, UsageError


@pytest.fixture
def shards(tmp_path) -> Shards:
    return make_shards(tmp_path / "shards", 10)


def train(shards: Shards, **changes) -> list[RawBatch]:
    options = {"batch": 4, "seed": 0, "stream": "labelled", "start": 0, "stop": 12, **changes}
    return list(training_batches(shards, options.pop("ids", shards.ids), **options))


def assert_equal(first: list[RawBatch], second: list[RawBatch]) -> None:
    assert [one.ids for one in first] == [two.ids for two in second]
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.size, two.size)
        assert (one.label is None) == (two.label is None)
        assert one.label is None or torch.equal(one.label, two.label)


def test_pictures_lie_in_the_top_left_corner_of_the_canvas(shards):
    for raw in train(shards, stop=5):
        assert (raw.image.dtype, raw.image.shape) == (torch.uint8, (4, 3, 24, 32))
        assert (raw.label.dtype, raw.label.shape) == (torch.uint8, (4, 24, 32))
        assert (raw.size.dtype, raw.size.shape) == (torch.int64, (4, 2))
        for row, identity in enumerate(raw.ids):
            image, mask = picture(shards.positions[identity])
            height, width = mask.shape
            assert raw.size[row].tolist() == [height, width]
            padded = np.zeros((24, 32, 3), np.uint8)
            padded[:height, :width] = image
            np.testing.assert_array_equal(raw.image[row].permute(1, 2, 0), padded)
            label = np.full((24, 32), 255, np.uint8)
            label[:height, :width] = mask
            np.testing.assert_array_equal(raw.label[row], label)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(shards, workers):
    assert_equal(train(shards), train(shards, workers=workers))
    alone = list(evaluation_batches(shards, batch=3))
    assert_equal(alone, list(evaluation_batches(shards, batch=3, workers=workers)))


def test_a_run_that_starts_later_gets_the_same_batches(shards):
    whole = train(shards)
    for start in (1, 5, 11):
        assert_equal(whole[start:], train(shards, start=start))
    assert train(shards, start=12) == []
    far = train(shards, start=10**9, stop=10**9 + 1)
    assert len(far) == 1


def test_processes_share_the_rows_of_the_global_batch(shards):
    whole = train(shards, batch=6)
    for world in (2, 3, 6):
        parts = [train(shards, batch=6, rank=rank, world=world) for rank in range(world)]
        for step, raw in enumerate(whole):
            assert torch.equal(torch.cat([part[step].image for part in parts]), raw.image)
            assert sum((part[step].ids for part in parts), ()) == raw.ids


def test_every_pass_holds_every_sample_once_in_an_order_of_its_own(shards):
    ids = [identity for raw in train(shards, batch=4, stop=25) for identity in raw.ids]
    passes = [tuple(ids[first : first + 10]) for first in range(0, 100, 10)]
    assert all(sorted(one) == sorted(shards.ids) for one in passes)
    assert len(set(passes)) == 10


def test_seeds_and_streams_give_other_orders_and_the_order_of_ids_does_not_matter(shards):
    first = train(shards)
    assert_equal(first, train(shards, ids=shards.ids[::-1]))
    for changes in ({"seed": 1}, {"stream": "unlabelled"}):
        assert [raw.ids for raw in train(shards, **changes)] != [raw.ids for raw in first]


def test_the_order_is_the_same_on_every_machine(shards):
    assert [identity[-1] for raw in train(shards, stop=5) for identity in raw.ids] == list("68071924359067128534")


def test_only_the_ids_that_are_asked_for_are_drawn_also_when_the_batch_is_larger(shards):
    ids = shards.ids[3:6]
    found = train(shards, ids=ids, batch=8, stop=3)
    counts = collections.Counter(identity for raw in found for identity in raw.ids)
    assert counts == dict.fromkeys(ids, 8)


@pytest.mark.parametrize(("world", "batch"), [(1, 3), (2, 3), (3, 2), (4, 50)])
def test_evaluation_sees_every_image_exactly_once_over_all_processes(shards, world, batch):
    parts = [list(evaluation_batches(shards, batch=batch, rank=rank, world=world)) for rank in range(world)]
    ids = [identity for part in parts for raw in part for identity in raw.ids]
    assert sorted(ids) == sorted(shards.ids)
    assert all(len(raw.ids) == batch for part in parts for raw in part[:-1])


def test_an_empty_part_gives_no_batches(tmp_path):
    write(tmp_path / "test", [], META, "test", 4, with_masks=True)
    assert list(evaluation_batches(Shards(tmp_path / "test"), batch=4)) == []


def test_the_pool_has_no_labels(tmp_path):
    pool = make_shards(tmp_path / "pool", 6, masks=False)
    assert all(raw.label is None for raw in train(pool))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_changes_nothing_but_the_reading(shards, workers, monkeypatch):
    expected = train(shards)
    for cache_mb in (1, 100):
        assert_equal(train(Shards(shards.folder), cache_mb=cache_mb, workers=workers), expected)


def test_with_a_cache_every_sample_is_decoded_once(shards, monkeypatch):
    read = collections.Counter()
    original = Shards.read_image
    monkeypatch.setattr(Shards, "read_image", lambda self, place: (read.update([place]), original(self, place))[1])
    train(shards, cache_mb=1)
    list(evaluation_batches(shards, batch=3, cache_mb=1))
    assert read == dict.fromkeys(range(10), 1)


def test_the_cache_keeps_to_its_room(shards, monkeypatch, tmp_path):
    monkeypatch.setattr(loader, "_KEPT", type(loader._KEPT)())
    meta = {**META, "canvas": [1024, 1024]}
    data = encode_image(np.zeros((512, 512, 3), np.uint8))  # 0.75 MiB decoded
    samples = [Sample(id=str(number), part="train", image=data, suffix="png", mask=None) for number in range(5)]
    write(tmp_path / "large", samples, meta, "train", 4, with_masks=False)
    large = Shards(tmp_path / "large")
    list(evaluation_batches(large, batch=1, cache_mb=2))
    assert len(loader._KEPT[large].samples) == 2
    train(shards, cache_mb=2)
    assert sum(kept.size for kept in loader._KEPT.values()) <= 2 << 20
    del large
    assert len(loader._KEPT) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_arrives_as_one_clear_line(shards, workers):
    entry = shards.index.samples[5]
    path = shards.folder / shards.index.shards[entry.shard].name
    data = bytearray(path.read_bytes())
    data[entry.image.offset + 60] ^= 255
    path.write_bytes(data)
    with pytest.raises(
        BenchError, match=r"^\S*train-000001\.tar: sample 'a\.005': has changed since it was written"
    ) as error:
        list(evaluation_batches(shards, batch=2, workers=workers))
    assert "\n" not in str(error.value)
    assert type(error.value) is BenchError


def test_a_killed_worker_arrives_as_one_clear_line(shards):
    batches = training_batches(shards, shards.ids, batch=4, seed=0, stream="x", start=0, stop=10**6, workers=2)
    next(batches)
    children = psutil.Process().children()
    os.kill(children[0].pid, signal.SIGKILL)
    with pytest.raises(BenchError, match=r"shards: a loader process died \(.*\): try fewer workers") as error:
        for _ in batches:
            pass
    assert "\n" not in str(error.value)
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive


def test_workers_end_when_the_batches_are_closed(shards):
    batches = training_batches(shards, shards.ids, batch=4, seed=0, stream="x", start=0, stop=10**6, workers=2)
    next(batches)
    workers = psutil.Process().children()
    assert len(workers) >= 2
    batches.close()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive


def test_a_reader_that_was_used_before_the_fork_works_in_the_workers(shards):
    shards.read_image(0)
    shards.read_image(9)
    assert_equal(train(shards, workers=2), train(shards))
    shards.read_image(0)


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_leaves_the_generators_of_the_process_alone(shards, workers):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    train(shards, workers=workers)
    assert torch.equal(torch.rand(3), expected)


def test_wrong_use_is_told_at_once(shards):
    with pytest.raises(UsageError, match="a batch of 4 images cannot be shared by 3 processes"):
        train(shards, world=3)
    with pytest.raises(BenchError, match="no samples to draw batches from"):
        train(shards, ids=[])
    with pytest.raises(BenchError, match="has no sample 'nobody'"):
        train(shards, ids=["a.000", "nobody"])
