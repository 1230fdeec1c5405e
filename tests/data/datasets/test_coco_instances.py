"""COCO 2017, on small archives of the real layout."""

from __future__ import annotations

import coco_data
import numpy as np
import pytest
from archives_data import complaint, jpeg
from coco_data import ANNOTATIONS, IDS, NAMES, changed, member, name_of

from rc2l_bench.data import catalog
from rc2l_bench.data.datasets import coco_regions
from rc2l_bench.data.datasets.coco_instances import CATEGORIES, TABLE
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.decode import decode_mask
from rc2l_bench.data.fetch import MIRROR
from rc2l_bench.errors import UsageError

pytest.importorskip("pycocotools", reason="pycocotools is not installed")
SORTED = {part: [name_of(number) for number in sorted(ids)] for part, ids in IDS.items()}


@pytest.fixture(autouse=True)
def _mirror(tmp_path, monkeypatch):
    """The archives are in the mirror; the official addresses are out of reach."""
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))
    monkeypatch.setattr("rc2l_bench.data.download.TRIES", 1)


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "data/raw/coco_instances"


@pytest.fixture
def prepared(tmp_path, raw):
    dataset = coco_data.write(tmp_path / "mirror")
    dataset.prepare(raw)
    return dataset


def spoilt(tmp_path, raw, **how):
    """What a data set says whose archives lack something; nothing passes for whole afterwards."""
    said = complaint(coco_data.write(tmp_path / "mirror", **how), raw)
    assert not list(raw.glob("*.part"))
    return said


@pytest.mark.parametrize("part", IDS)
def test_a_part_has_its_images_in_sorted_order_untouched(prepared, raw, part):
    samples = list(prepared.samples(raw, part))
    assert [sample.id for sample in samples] == SORTED[part]
    files = coco_data.image_files(part)
    for sample in samples:
        assert sample.image == files[f"{part}2017/{sample.id}.jpg"]
        assert (sample.part, sample.suffix) == (part, "jpg")
    assert list(prepared.samples(raw, "test")) == []


@pytest.mark.parametrize("part", IDS)
def test_masks_are_painted_from_the_regions_of_their_image(prepared, raw, part):
    for sample in prepared.samples(raw, part):
        assert np.array_equal(decode_mask(sample.mask), coco_data.classes_of(int(sample.id)))


def test_an_image_without_regions_is_background(prepared, raw):
    (sample,) = prepared.samples(raw, "train", only=[name_of(36)])
    assert not decode_mask(sample.mask).any()


def test_images_alone_are_those_of_the_samples_and_no_region_is_read(prepared, raw, monkeypatch):
    wanted = [(sample.id, sample.image) for sample in prepared.samples(raw, "train")]
    monkeypatch.setattr(
        "rc2l_bench.data.datasets.coco_instances.open_regions", lambda *_: pytest.fail("opened the table")
    )
    found = list(prepared.images(raw, "train"))
    assert [(sample.id, sample.image) for sample in found] == wanted
    assert {sample.mask for sample in found} == {None}


def test_the_catalog_takes_it(prepared, raw):
    table = catalog.make(prepared, raw)
    assert list(table.ids("train")) == SORTED["train"]
    assert all(row.labelled and not row.ignored for row in table.rows)


def test_a_second_prepare_does_not_read_the_annotations_again(prepared, raw, monkeypatch):
    monkeypatch.setattr(coco_regions, "_items", lambda *_: pytest.fail("read again"))
    prepared.prepare(raw)
    assert prepared.present(raw)


def test_a_table_that_was_cut_off_is_made_again(prepared, raw):
    whole = (raw / TABLE).read_bytes()
    (raw / TABLE).write_bytes(whole[:5000])
    assert not prepared.present(raw)
    prepared.prepare(raw)
    assert (raw / TABLE).read_bytes() == whole


def test_without_its_packages_nothing_is_fetched(tmp_path, raw, monkeypatch):
    dataset = coco_data.write(tmp_path / "mirror")
    monkeypatch.setattr("rc2l_bench.data.datasets.coco_instances.find_spec", lambda _: None)
    with pytest.raises(
        UsageError, match=r"^coco_instances needs ijson and pycocotools: pip install 'rc2l-bench\[coco\]'"
    ):
        dataset.prepare(raw)
    assert not raw.exists()


def test_an_outline_that_cannot_be_is_named_at_the_door(tmp_path, raw):
    how = changed("val", lambda content: content["annotations"][0].update(segmentation=[[1, 2, 3]]))
    assert f"{ANNOTATIONS}: {member('val')}: regions of {name_of(139)}: a polygon" in spoilt(tmp_path, raw, **how)


def test_an_image_of_another_size_than_its_regions_is_named(tmp_path, raw):
    path = f"val2017/{name_of(285)}.jpg"
    text = spoilt(tmp_path, raw, changes={path: jpeg(np.zeros((30, 30, 3), np.uint8))})
    assert f"regions of {name_of(285)}: the image has 30×30 pixels" in text


@pytest.mark.parametrize(("leave_out", "fault"), [
    (f"train2017/{name_of(25)}.jpg", f"train2017.zip: has no member train2017/{name_of(25)}.jpg"),
    (member("val"), f"{ANNOTATIONS}: has no member {member('val')}"),
])  # fmt: skip
def test_a_missing_member_is_named_at_the_door(tmp_path, raw, leave_out, fault):
    assert fault in spoilt(tmp_path, raw, leave_out=leave_out)


def test_an_image_that_the_annotations_do_not_know_is_told(tmp_path, raw):
    how = changed("val", lambda content: (content["images"].pop(), content["annotations"].clear()))
    assert "val2017.zip: 3 images, but" in spoilt(tmp_path, raw, **how)


def test_another_number_of_images_is_refused(tmp_path, raw):
    text = spoilt(tmp_path, raw, counts={"train": 118_287, "val": 5_000})
    assert "hold {'train': 12, 'val': 3} images, expected {'train': 118287, 'val': 5000}" in text


def test_there_are_81_classes_as_many_colours_and_a_number_for_each_thing():
    dataset = load_dataset("coco_instances")
    assert len(set(dataset.classes)) == len(set(dataset.palette)) == 81
    assert len(set(CATEGORIES)) == 80
    assert [NAMES[number] for number in (1, 13, 90)] == ["person", "stop sign", "toothbrush"]
