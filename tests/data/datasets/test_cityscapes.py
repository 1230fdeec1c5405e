"""Cityscapes, on small archives of the real layout."""

from __future__ import annotations

import zipfile

import cityscapes_data
import numpy as np
import pytest
from archives_data import complaint, png
from cityscapes_data import IDS, SIZE

from rc2l_bench.data import catalog
from rc2l_bench.data.datasets.cityscapes import TRAIN_IDS
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.decode import decode_mask
from rc2l_bench.data.fetch import MIRROR
from rc2l_bench.errors import BenchError

IMAGES, MASKS = "leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"
TRAIN = IDS["train"]


@pytest.fixture(autouse=True)
def _mirror(tmp_path, monkeypatch):
    """The archives are in the mirror."""
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "data/raw/cityscapes"


@pytest.fixture
def prepared(tmp_path, raw):
    dataset = cityscapes_data.write(tmp_path / "mirror")
    dataset.prepare(raw)
    return dataset


def spoilt(tmp_path, raw, **how):
    """What a data set says whose archives lack something."""
    return complaint(cityscapes_data.write(tmp_path / "mirror", **how), raw)


@pytest.mark.parametrize("part", IDS)
def test_a_part_has_its_images_in_sorted_order_untouched(prepared, raw, part):
    samples = list(prepared.samples(raw, part))
    assert [sample.id for sample in samples] == sorted(IDS[part])
    files = cityscapes_data.image_files()
    for sample in samples:
        assert sample.image == files[cityscapes_data.image(part, sample.id)]
        assert (sample.part, sample.suffix) == (part, "png")


def test_masks_hold_classes_by_the_table(prepared, raw):
    for sample in prepared.samples(raw, "val"):
        labels = cityscapes_data.picture(sample.id)[1]
        wanted = np.vectorize(lambda label: TRAIN_IDS.get(label, 255))(labels)
        assert np.array_equal(decode_mask(sample.mask), wanted)


def test_the_table_classes_and_colours_are_those_of_cityscapesscripts():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels", reason="cityscapesscripts is not installed").labels
    theirs = {label.id: label for label in labels if label.trainId not in (-1, 255)}
    assert {number: label.trainId for number, label in theirs.items()} == TRAIN_IDS
    dataset = load_dataset("cityscapes")
    by_class = sorted(theirs.values(), key=lambda label: label.trainId)
    assert [label.name for label in by_class] == list(dataset.classes)
    assert [label.color for label in by_class] == list(dataset.palette)
    assert {label.id for label in labels} == {*range(-1, 34)}


def test_the_test_part_has_no_masks_though_the_zip_has_placeholders(prepared, raw):
    assert cityscapes_data.mask("test", IDS["test"][0]) in cityscapes_data.mask_files()
    assert [sample.mask for sample in prepared.samples(raw, "test")] == [None] * 3


def test_images_alone_are_those_of_the_samples_and_no_mask_is_read(prepared, raw, monkeypatch):
    wanted = [(sample.id, sample.image) for sample in prepared.samples(raw, "train")]
    monkeypatch.setattr("rc2l_bench.data.datasets.cityscapes._read_mask", lambda *_: pytest.fail("read a mask"))
    assert [(sample.id, sample.image) for sample in prepared.images(raw, "train")] == wanted


def test_only_the_wanted_ids_are_read(prepared, raw):
    wanted = {TRAIN[9], TRAIN[2]}
    assert [sample.id for sample in prepared.samples(raw, "train", wanted)] == sorted(wanted)


def test_nothing_is_unpacked(prepared, raw):
    assert {path.name for path in raw.iterdir() if path.suffix not in (".ok", ".lock")} == {IMAGES, MASKS}
    assert prepared.present(raw)


def test_the_catalog_has_every_part(prepared, raw):
    table = catalog.make(prepared, raw)
    assert {part: len(table.of(part)) for part in IDS} == cityscapes_data.COUNTS
    assert {row.labelled for row in table.of("test")} == {False}
    assert all(row.labelled for part in ("train", "val") for row in table.of(part))


@pytest.mark.parametrize("there", [[], [MASKS]])
def test_the_message_says_which_two_files_their_sizes_and_where_to_put_them(tmp_path, raw, there):
    cityscapes_data.write(tmp_path / "mirror")
    for name in {IMAGES, MASKS} - set(there):
        (tmp_path / "mirror" / name).unlink()
    dataset = load_dataset("cityscapes")
    with pytest.raises(BenchError) as caught:
        dataset.prepare(raw)
    text = str(caught.value)
    for part in (
        f"{MASKS} (252,567,705 bytes)", f"{IMAGES} (11,592,327,197 bytes)", "csDownload", "cityscapes-dataset.com",
        f"into {raw}", MIRROR,
    ):  # fmt: skip
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize("name", [IMAGES, MASKS])
@pytest.mark.parametrize("place", ["mirror", "data/raw/cityscapes"])
@pytest.mark.parametrize(("spoil", "fault"), [
    (lambda data: data[:-6] + b"<html>", r"expected md5:\w+, got md5:\w+"),
    (lambda data: data[: len(data) // 2], r"expected \d+ bytes, got \d+"),
])  # fmt: skip
def test_a_wrong_or_truncated_archive_is_refused_before_it_is_opened(
    tmp_path, raw, monkeypatch, name, place, spoil, fault
):
    dataset = cityscapes_data.write(tmp_path / "mirror")
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    data = (tmp_path / "mirror" / name).read_bytes()
    (tmp_path / place / name).write_bytes(spoil(data))
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("opened"))
    with pytest.raises(BenchError, match=rf"{name}: {fault}"):
        dataset.prepare(raw)


def test_a_file_that_a_person_brought_is_never_removed(tmp_path, raw):
    dataset = cityscapes_data.write(tmp_path / "mirror")
    raw.mkdir(parents=True)
    (raw / MASKS).write_bytes(b"something else")
    with pytest.raises(BenchError, match="download it again"):
        dataset.prepare(raw)
    assert (raw / MASKS).read_bytes() == b"something else"


def test_an_image_without_mask_is_named(tmp_path, raw):
    name = cityscapes_data.mask("train", TRAIN[3])
    assert f"{MASKS}: has no member {name}" in spoilt(tmp_path, raw, leave_out=name)


def test_a_mask_without_image_is_named(tmp_path, raw):
    name = cityscapes_data.image("val", IDS["val"][1])
    assert f"{IMAGES}: has no member {name}" in spoilt(tmp_path, raw, leave_out=name)


def test_a_missing_test_image_is_counted(tmp_path, raw):
    text = spoilt(tmp_path, raw, leave_out=cityscapes_data.image("test", IDS["test"][1]))
    assert "hold {'train': 16, 'val': 4, 'test': 2} images, expected {'train': 16, 'val': 4, 'test': 3}" in text


@pytest.mark.parametrize("label", [34, 254])
def test_a_label_outside_the_table_is_named(tmp_path, raw, label):
    name = cityscapes_data.mask("train", TRAIN[5])
    bad = np.zeros(SIZE, np.uint8)
    bad[3, :7] = label
    text = spoilt(tmp_path, raw, changes={name: png(bad)})
    assert f"{MASKS}: {name}: label {label} at 7 pixels; Cityscapes has 0..33" in text


def test_a_licence_plate_is_ignored(tmp_path, raw):
    plate = np.full(SIZE, 255, np.uint8)
    dataset = cityscapes_data.write(tmp_path / "mirror", changes={cityscapes_data.mask("train", TRAIN[0]): png(plate)})
    dataset.prepare(raw)
    (sample,) = dataset.samples(raw, "train", [TRAIN[0]])
    assert (decode_mask(sample.mask) == 255).all()


def test_a_damaged_image_is_named(tmp_path, raw):
    name = cityscapes_data.image("train", TRAIN[1])
    text = spoilt(tmp_path, raw, changes={name: cityscapes_data.image_files()[name][:400]})
    assert f"{IMAGES}: {name}: the PNG is cut off" in text


def test_a_member_whose_bytes_changed_after_the_check_is_named(prepared, raw):
    name = cityscapes_data.image("train", TRAIN[1])
    with zipfile.ZipFile(raw / IMAGES) as archive:
        info = archive.getinfo(name)
    data = bytearray((raw / IMAGES).read_bytes())
    data[info.header_offset + 30 + len(name) + info.compress_size // 2] ^= 1
    (raw / IMAGES).unlink()
    (raw / IMAGES).write_bytes(data)
    with pytest.raises(BenchError, match=rf"{IMAGES}: {name}: damaged \("):
        list(prepared.samples(raw, "train", [TRAIN[1]]))
