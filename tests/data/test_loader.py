from __future__ import annotations

import collections
import os
import signal
from itertools import chain

import numpy as np
import psutil
import pytest
import tiny_data
import torch
from shards_data import META, make_shards, picture

from rc2l_bench.config import Protocol
from rc2l_bench.data import loader
from rc2l_bench.data.augment import Augmenter
from rc2l_bench.data.geometry import Geometry, Window
from rc2l_bench.data.loader import RawBatch, evaluation_batches, training_batches
from rc2l_bench.data.packing import write
from rc2l_bench.data.reader import Stream, Windows
from rc2l_bench.data.selection import Selection, everything
from rc2l_bench.data.shards import Shards
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.types import Batch


@pytest.fixture
def shards(tmp_path) -> Shards:
    return make_shards(tmp_path / "shards", 10)


def stream(shards: Shards, batch: int = 4, name: str = "labelled", selection: Selection | None = None) -> Stream:
    chosen = everything(len(shards)) if selection is None else selection
    return Stream(name=name, shards=shards, selection=chosen, batch=batch)


def protocol() -> Protocol:
    return tiny_data.protocol(crop=[16, 16])


def train(*streams: Stream, seed: int = 0, rank: int = 0, world: int = 1, **changes) -> list[Windows]:
    """Windows of the steps 0..11, copied, because they are only good until the next step."""
    options = {"start": 0, "stop": 12, **changes}
    loaded = training_batches(streams, Geometry(protocol(), seed, rank, world), **options)
    return [[[copied(window) for window in windows] for windows in step] for step in loaded]


def copied(window: Window) -> Window:
    label = None if window.label is None else window.label.copy()
    return Window(id=window.id, pixels=window.pixels.copy(), label=label, frame=window.frame)


def ids(steps: list[Windows]) -> list[list[str]]:
    return [[window.id for windows in step for window in windows] for step in steps]


def assert_equal(first: list[Windows], second: list[Windows]) -> None:
    assert ids(first) == ids(second)
    for mine, theirs in zip(flat(first), flat(second), strict=True):
        assert mine.frame == theirs.frame
        np.testing.assert_array_equal(mine.pixels, theirs.pixels)
        np.testing.assert_array_equal(mine.label, theirs.label)


def flat(steps: list[Windows]) -> list[Window]:
    return [window for step in steps for windows in step for window in windows]


def evaluate(shards: Shards, **options) -> list[RawBatch]:
    return list(evaluation_batches(shards, **options))


def assert_raw_equal(first: list[RawBatch], second: list[RawBatch]) -> None:
    assert [raw.ids for raw in first] == [raw.ids for raw in second]
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.size, two.size)
        assert torch.equal(one.label, two.label)


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_the_number_of_workers_changes_nothing(shards, workers):
    assert_equal(train(stream(shards)), train(stream(shards), workers=workers))
    assert_raw_equal(evaluate(shards, batch=3), evaluate(shards, batch=3, workers=workers))


def test_workers_that_augment_make_the_batches_that_are_made_here(shards, tmp_path):
    pool = make_shards(tmp_path / "pool", 9, masks=False)
    tool = Augmenter(protocol(), tiny_data.views(2), 0, torch.device("cpu"))
    streams = [stream(shards), stream(pool, 2, "unlabelled")]

    def finish(windows: Windows, step: int) -> Batch:
        return tool(*windows, step)

    def made(workers: int) -> list[Batch]:
        found = training_batches(streams, tool.geometry, start=0, stop=6, finish=finish, workers=workers)
        return [one if isinstance(one, Batch) else finish(one, step) for step, one in enumerate(found)]

    alone = made(0)
    for workers in (1, 2):
        for mine, theirs in zip(alone, made(workers), strict=True):
            assert all(torch.equal(getattr(mine, name), getattr(theirs, name)) for name in Batch.__slots__)


def test_a_run_that_starts_later_gets_the_same_batches(shards):
    whole = train(stream(shards))
    for start in (1, 5, 11):
        assert_equal(whole[start:], train(stream(shards), start=start))
    assert train(stream(shards), start=12) == []
    assert len(train(stream(shards), start=10**9, stop=10**9 + 1)) == 1


def test_processes_share_the_rows_of_the_global_batch(shards):
    whole = train(stream(shards, 6))
    for world in (2, 3, 6):
        parts = [train(stream(shards, 6), rank=rank, world=world) for rank in range(world)]
        together = [[[*chain.from_iterable(part[step][0] for part in parts)]] for step in range(12)]
        assert_equal(whole, together)


def test_every_pass_holds_every_sample_once_in_an_order_of_its_own(shards):
    found = [*chain.from_iterable(ids(train(stream(shards), stop=25)))]
    passes = [tuple(found[first : first + 10]) for first in range(0, 100, 10)]
    assert all(sorted(one) == list(shards.ids) for one in passes)
    assert len(set(passes)) == 10


def test_seeds_and_names_of_streams_give_other_orders(shards):
    first = ids(train(stream(shards)))
    assert ids(train(stream(shards), seed=1)) != first
    assert ids(train(stream(shards, name="unlabelled"))) != first


def test_the_order_is_the_same_on_every_machine(shards):
    found = [*chain.from_iterable(ids(train(stream(shards), stop=5)))]
    assert [identity[-1] for identity in found] == list("68071924359067128534")


def test_streams_of_one_step_do_not_influence_one_another(shards, tmp_path):
    pool = make_shards(tmp_path / "pool", 7, masks=False)
    both = train(stream(shards), stream(pool, 2, "unlabelled"))
    assert_equal([[step[0]] for step in both], train(stream(shards)))
    assert_equal([[step[1]] for step in both], train(stream(pool, 2, "unlabelled")))


def test_only_what_is_selected_is_drawn_also_when_the_batch_is_larger(shards):
    found = train(stream(shards, 8, selection=Selection(10, [3, 4, 5])), stop=3)
    assert collections.Counter(chain.from_iterable(ids(found))) == dict.fromkeys(shards.ids[3:6], 8)


def test_pictures_of_one_size_come_together_and_whole(shards):
    found = evaluate(shards, batch=4)
    assert len(found) > 3
    for raw in found:
        for row, identity in enumerate(raw.ids):
            image, mask = picture(int(identity[-3:]))
            assert tuple(raw.size[row].tolist()) == mask.shape
            np.testing.assert_array_equal(raw.image[row].permute(1, 2, 0), image)
            np.testing.assert_array_equal(raw.label[row], mask)


@pytest.mark.parametrize(("world", "batch"), [(1, 3), (2, 3), (3, 2), (4, 50)])
def test_evaluation_sees_every_image_exactly_once_over_all_processes(shards, world, batch):
    parts = [evaluate(shards, batch=batch, rank=rank, world=world) for rank in range(world)]
    found = [identity for part in parts for raw in part for identity in raw.ids]
    assert sorted(found) == list(shards.ids)
    assert all(len(raw.ids) <= batch for part in parts for raw in part)


def test_an_empty_part_gives_no_batches(tmp_path):
    write(tmp_path / "test", [], META, "test", 4, with_masks=True)
    assert evaluate(Shards(tmp_path / "test"), batch=4) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_arrives_as_one_clear_line(shards, workers):
    entry = shards.table.entry(5)
    path = shards.folder / shards.index.shards[entry.shard].name
    data = bytearray(path.read_bytes())
    data[entry.image.offset + 60] ^= 255
    path.write_bytes(data)
    fault = r"^\S*train-000001\.tar: sample 'a\.005': has changed since it was written"
    for load in (lambda: evaluate(shards, batch=2, workers=workers), lambda: train(stream(shards), workers=workers)):
        with pytest.raises(BenchError, match=fault) as error:
            load()
        assert "\n" not in str(error.value)
        assert type(error.value) is BenchError


def endless(shards: Shards, workers: int = 2):
    return training_batches([stream(shards)], Geometry(protocol(), 0), start=0, stop=10**6, workers=workers)


def test_a_killed_worker_arrives_as_one_clear_line(shards):
    others = psutil.Process().children()  # of other tests, a server of forks for instance
    batches = endless(shards)
    next(batches)
    children = [child for child in psutil.Process().children() if child not in others]
    os.kill(children[0].pid, signal.SIGKILL)
    with pytest.raises(BenchError, match=r"shards: a loader process died \(.*\): try fewer workers") as error:
        for _ in batches:
            pass
    assert "\n" not in str(error.value)
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive


def test_workers_end_when_the_batches_are_closed(shards):
    others = psutil.Process().children()
    batches = endless(shards)
    next(batches)
    workers = [child for child in psutil.Process().children() if child not in others]
    assert len(workers) >= 2
    batches.close()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive


def test_a_reader_that_was_used_before_the_fork_works_in_the_workers(shards):
    shards.read_image(0)
    shards.read_image(9)
    assert_equal(train(stream(shards), workers=2), train(stream(shards)))
    shards.read_image(0)


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_leaves_the_generators_of_the_process_alone(shards, workers):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    train(stream(shards), workers=workers)
    assert torch.equal(torch.rand(3), expected)


def test_wrong_use_is_told_at_once(shards):
    with pytest.raises(UsageError, match="a batch of 4 images cannot be shared by 3 processes"):
        train(stream(shards), world=3)
    with pytest.raises(BenchError, match="no samples to draw batches from"):
        train(stream(shards, selection=Selection(10, [])))


def test_too_little_shared_memory_is_told_before_a_worker_dies_of_it(shards, monkeypatch):
    usage = collections.namedtuple("Usage", "total used free")
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda _: usage(0, 0, 1000))
    with pytest.raises(UsageError, match=r"2 workers need \d+ MiB of shared memory, /dev/shm has 0 free: few"):
        train(stream(shards), workers=2)


def test_what_workers_hand_over_fits_their_memory(shards, tmp_path):
    """Also the largest windows: else every batch would be sent through a pipe."""
    small = tiny_data.protocol(crop=[24, 32], weak={"scale": [0.5, 0.5], "flip": 0.5})
    taken = []
    original = loader.Slots.take

    def spy(self, parcel):
        taken.append(parcel.loose)
        return original(self, parcel)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader.Slots, "take", spy)
        list(training_batches([stream(shards)], Geometry(small, 0), start=0, stop=4, workers=1))
        tool = Augmenter(small, tiny_data.views(4), 0, torch.device("cpu"))
        streams = [stream(shards, 2), stream(make_shards(tmp_path / "pool", 9, masks=False), 8, "unlabelled")]
        finish = lambda windows, step: tool(*windows, step)  # noqa: E731
        list(training_batches(streams, tool.geometry, start=0, stop=4, finish=finish, workers=1))
        evaluate(shards, batch=5, workers=1)
    assert len(taken) == 10
    assert taken == [None] * 10
