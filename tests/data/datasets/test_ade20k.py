"""ADE20K, on a small archive of the real layout."""

from __future__ import annotations

import ade20k_data
import numpy as np
import pytest
from ade20k_data import IDS, NAME
from archives_data import complaint, png

from rc2l_bench.data import catalog
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.decode import decode_mask
from rc2l_bench.data.fetch import MIRROR


@pytest.fixture(autouse=True)
def _mirror(tmp_path, monkeypatch):
    """The archive is in the mirror; the official address is out of reach."""
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))
    monkeypatch.setattr("rc2l_bench.data.download.TRIES", 1)


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "data/raw/ade20k"


@pytest.fixture
def prepared(tmp_path, raw):
    dataset = ade20k_data.write(tmp_path / "mirror")
    dataset.prepare(raw)
    return dataset


def spoilt(tmp_path, raw, **how):
    """What a data set says whose archives lack something."""
    return complaint(ade20k_data.write(tmp_path / "mirror", **how), raw)


@pytest.mark.parametrize("part", IDS)
def test_a_part_has_its_images_in_sorted_order_untouched(prepared, raw, part):
    samples = list(prepared.samples(raw, part))
    assert [sample.id for sample in samples] == IDS[part]
    files = ade20k_data.files()
    for sample in samples:
        assert sample.image == files[ade20k_data.image(part, sample.id)]
        assert (sample.part, sample.suffix) == (part, "jpg")


def test_label_0_is_ignored_and_the_others_begin_with_class_0(prepared, raw):
    for sample in prepared.samples(raw, "train"):
        labels = ade20k_data.picture(sample.id)[1].astype(int)
        assert np.array_equal(decode_mask(sample.mask), np.where(labels == 0, 255, labels - 1))


def test_images_alone_are_those_of_the_samples_and_no_mask_is_read(prepared, raw, monkeypatch):
    wanted = [(sample.id, sample.image) for sample in prepared.samples(raw, "train")]
    monkeypatch.setattr("rc2l_bench.data.datasets.ade20k._read_mask", lambda *_: pytest.fail("read a mask"))
    found = list(prepared.images(raw, "train"))
    assert [(sample.id, sample.image) for sample in found] == wanted
    assert {sample.mask for sample in found} == {None}


def test_the_catalog_takes_it(prepared, raw):
    table = catalog.make(prepared, raw)
    assert list(table.ids("train")) == IDS["train"]
    assert all(row.labelled and row.ignored for row in table.rows)
    assert table.of("test") == ()


@pytest.mark.parametrize(
    "member", [ade20k_data.image("train", IDS["train"][3]), ade20k_data.mask("val", IDS["val"][0])]
)
def test_a_missing_member_is_named_at_the_door(tmp_path, raw, member):
    assert f"{NAME}: has no member {member}" in spoilt(tmp_path, raw, leave_out=member)


def test_another_number_of_images_is_refused(tmp_path, raw):
    text = spoilt(tmp_path, raw, counts={"train": 20_210, "val": 2_000})
    assert "holds {'train': 12, 'val': 3} images, expected {'train': 20210, 'val': 2000}" in text


def test_a_label_that_is_no_class_is_named_with_its_file(tmp_path, raw):
    member, labels = ade20k_data.mask("val", IDS["val"][1]), ade20k_data.picture(IDS["val"][1])[1]
    labels[:2, :3] = 151
    text = spoilt(tmp_path, raw, changes={member: png(labels)})
    assert f"{NAME}: {member}: label 151 at 6 pixels; ADE20K has 0..150" in text


def test_there_are_150_classes_and_as_many_colours():
    dataset = load_dataset("ade20k")
    assert len(dataset.classes) == len(set(dataset.classes)) == len(set(dataset.palette)) == 150
    assert (0, 0, 0) not in dataset.palette
