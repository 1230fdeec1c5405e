"""The images on which a data set is tuned: training images only, parted by hashing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from rc2l_bench.data.datasets.base import Dataset, Sample
from rc2l_bench.data.datasets.held_out import HeldOut
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.datasets.shapes import Shapes, TuningShapes
from rc2l_bench.errors import UsageError

RAW = Path("data/raw/tuning-many")


class Many(Dataset):
    """A thousand training images, every tenth without a mask; its other parts must not be asked for."""

    name = "many"
    classes = ("a", "b")
    palette = ((0, 0, 0), (255, 255, 255))
    canvas = (8, 8)

    def prepare(self, raw: Path) -> None:
        assert raw == Path("data/raw/many")

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        assert (raw, part) == (Path("data/raw/many"), "train")
        for number in range(1000):
            mask = None if number % 10 == 0 else b"m"
            if only is None or f"i{number}" in only:
                yield Sample(id=f"i{number}", part="train", image=b"i", suffix="png", mask=mask)


@pytest.fixture
def held() -> HeldOut:
    return HeldOut(Many(), 0.25, 0)


def ids(held: HeldOut, part: str) -> list[str]:
    return [sample.id for sample in held.samples(RAW, part)]


def test_parts_share_no_image_and_have_the_share_that_was_asked_for(held):
    train, val = set(ids(held, "train")), set(ids(held, "val"))
    assert not train & val
    assert 0.2 < len(val) / 900 < 0.3


def test_an_image_without_a_mask_is_not_scored(held):
    assert all(sample.mask for sample in held.samples(RAW, "val"))


def test_there_is_no_test_part(held):
    assert ids(held, "test") == []


def test_samples_say_their_part(held):
    assert {sample.part for sample in held.samples(RAW, "val")} == {"val"}


def test_an_image_keeps_its_part_when_others_come_and_go(held):
    some = [f"i{number}" for number in range(1, 1000, 7)]
    assert [s.id for s in held.samples(RAW, "val", some)] == [i for i in ids(held, "val") if i in some]


def test_the_pool_has_the_training_images_alone(held):
    assert {sample.id for sample in held.images(RAW, "train")} == set(ids(held, "train"))


def test_another_seed_holds_out_others(held):
    assert ids(HeldOut(Many(), 0.25, 1), "val") != ids(held, "val")


def test_a_larger_share_holds_out_the_same_and_more(held):
    assert set(ids(held, "val")) < set(ids(HeldOut(Many(), 0.5, 0), "val"))


def test_the_data_set_itself_is_prepared(held, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    held.prepare(RAW)
    assert RAW.is_dir()


def test_shapes_are_tuned_on_images_of_their_own():
    other, own = load_dataset("tuning-shapes"), Shapes()
    assert isinstance(other, TuningShapes)
    for part in ("train", "val"):
        assert not set(own._ids(part)) & set(other._ids(part))


def test_no_two_generated_images_are_equal(tmp_path):
    own, other = Shapes(), TuningShapes()
    records = {record for dataset in (own, other) for record in dataset._records()}
    assert len(records) == 2 * (1024 + 256)


def test_the_tuning_images_of_an_unknown_data_set_are_unknown():
    with pytest.raises(UsageError, match="unknown dataset 'nothing'"):
        load_dataset("tuning-nothing")
