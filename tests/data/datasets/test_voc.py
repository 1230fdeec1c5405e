"""VOC and SBD, on small archives of the real layout."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
import voc_data
from archives_data import complaint, jpeg, pass_the_door
from PIL import Image
from voc_data import CLEAN, MORE, SBD, TRAIN, VAL, VOC

from rc2l_bench.data import catalog
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.datasets.voc import MASKS
from rc2l_bench.data.decode import decode_image, decode_mask
from rc2l_bench.data.fetch import MIRROR
from rc2l_bench.errors import BenchError


@pytest.fixture(autouse=True)
def _without_internet(tmp_path, monkeypatch):
    """The archives are in the mirror; the official addresses are out of reach."""
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))
    monkeypatch.setattr("rc2l_bench.data.download.TRIES", 1)


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "data/raw/voc"


@pytest.fixture
def prepared(tmp_path, raw):
    dataset = voc_data.write(tmp_path / "mirror")
    dataset.prepare(raw)
    return dataset


def spoilt(tmp_path, raw, **how):
    """What a data set says whose archives lack something."""
    return complaint(voc_data.write(tmp_path / "mirror", **how), raw)


def test_train_is_voc_train_and_sbd_without_voc_val(prepared, raw):
    assert [sample.id for sample in prepared.samples(raw, "train")] == TRAIN
    assert [sample.id for sample in prepared.samples(raw, "val")] == VAL
    assert list(prepared.samples(raw, "test")) == []


def test_masks_lie_on_the_stored_pixels_whatever_the_camera_wrote(tmp_path, raw):
    image, _ = voc_data.picture(VAL[0])
    tag, target = Image.Exif(), io.BytesIO()
    tag[0x0112] = 6
    Image.fromarray(image).save(target, "JPEG", quality=90, exif=tag)
    name = f"{VOC}/JPEGImages/{VAL[0]}.jpg"
    dataset = voc_data.write(tmp_path / "mirror", changes={name: target.getvalue()})
    pass_the_door(dataset, raw)
    sample = next(dataset.samples(raw, "val"))
    assert np.array_equal(decode_image(sample.image), decode_image(jpeg(image)))


def test_an_unpacked_tree_beside_the_archives_is_mentioned(tmp_path, raw, capsys):
    (raw / "VOCdevkit").mkdir(parents=True)
    voc_data.write(tmp_path / "mirror").prepare(raw)
    told = capsys.readouterr().err
    assert f"{raw / 'VOCdevkit'}: only the archive is read here" in told
    assert "'Unpacked archives' in datasets/README.md" in told


def test_image_bytes_are_those_in_the_tar(prepared, raw):
    files = voc_data.voc_files()
    for sample in prepared.samples(raw, "train"):
        assert sample.image == files[f"{VOC}/JPEGImages/{sample.id}.jpg"]
        assert (sample.part, sample.suffix) == ("train", "jpg")


@pytest.mark.parametrize("part", ["train", "val"])
def test_masks_of_voc_are_its_palette_pngs_byte_for_byte(prepared, raw, part):
    files = voc_data.voc_files()
    wanted = VAL if part == "val" else CLEAN
    for sample in prepared.samples(raw, part, only=wanted):
        assert sample.mask == files[f"{VOC}/SegmentationClass/{sample.id}.png"]
        assert np.array_equal(decode_mask(sample.mask), voc_data.with_border(voc_data.picture(sample.id)[1]))


def test_masks_of_sbd_are_the_segmentation_of_its_mat_files(prepared, raw):
    samples = list(prepared.samples(raw, "train", only=MORE))
    assert [sample.id for sample in samples] == MORE
    for sample in samples:
        assert np.array_equal(decode_mask(sample.mask), voc_data.picture(sample.id)[1])
        assert decode_image(sample.image).shape[:2] == voc_data.size_of(sample.id)


def test_images_alone_are_those_of_the_samples_and_no_mask_is_read(prepared, raw, monkeypatch):
    wanted = [(sample.id, sample.image) for sample in prepared.samples(raw, "train")]
    monkeypatch.setattr("rc2l_bench.data.datasets.voc._read_sbd", lambda *_: pytest.fail("read a mask"))
    found = list(prepared.images(raw, "train"))
    assert [(sample.id, sample.image) for sample in found] == wanted
    assert {sample.mask for sample in found} == {None}


def test_where_both_have_a_mask_that_of_voc_wins(prepared, raw):
    (sample,) = prepared.samples(raw, "train", only=[CLEAN[0]])
    assert f"{SBD}/cls/{CLEAN[0]}.mat" in voc_data.sbd_files()
    assert (decode_mask(sample.mask) == 255).any()


def test_nothing_but_archives_and_the_masks_of_sbd_is_kept(prepared, raw):
    names = {path.name for path in raw.iterdir() if path.suffix not in (".ok", ".lock")}
    assert names == {"VOCtrainval_11-May-2012.tar", "benchmark.tgz", MASKS}
    assert prepared.present(raw)


def test_a_second_prepare_does_not_read_the_compressed_archive_again(prepared, raw, monkeypatch):
    monkeypatch.setattr("rc2l_bench.data.datasets.voc._keep_masks", lambda *_: pytest.fail("read again"))
    before = (raw / MASKS).stat().st_mtime_ns
    prepared.prepare(raw)
    assert (raw / MASKS).stat().st_mtime_ns == before


def test_masks_that_were_cut_off_are_taken_out_again(prepared, raw):
    whole = (raw / MASKS).read_bytes()
    (raw / MASKS).write_bytes(whole[:5000])
    assert not prepared.present(raw)
    prepared.prepare(raw)
    assert hashlib.sha256((raw / MASKS).read_bytes()).digest() == hashlib.sha256(whole).digest()


def test_verify_notices_a_flipped_byte_of_an_archive(prepared, raw):
    path = raw / "benchmark.tgz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(BenchError, match=r"benchmark\.tgz: expected md5:\w+, got md5:\w+"):
        prepared.verify(raw)


def test_the_catalog_counts_void_only_in_masks_of_voc(prepared, raw):
    table = catalog.make(prepared, raw)
    assert [row.id for row in table.of("train")] == TRAIN
    assert {row.id for row in table.of("train") if row.ignored} == set(CLEAN)
    assert all(row.labelled for row in table.rows)


@pytest.mark.parametrize("name", ["VOCtrainval_11-May-2012.tar", "benchmark.tgz"])
@pytest.mark.parametrize(("spoil", "fault"), [
    (lambda data: b"<html>" + data[6:], r"expected md5:\w+, got md5:\w+"),
    (lambda data: data[: len(data) // 2], r"expected \d+ bytes, got \d+"),
])  # fmt: skip
def test_a_wrong_or_truncated_archive_is_refused_before_it_is_opened(tmp_path, raw, monkeypatch, name, spoil, fault):
    dataset = voc_data.write(tmp_path / "mirror")
    path = tmp_path / "mirror" / name
    path.write_bytes(spoil(path.read_bytes()))
    monkeypatch.setattr("tarfile.open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(BenchError, match=rf"^{name}.*{fault}"):
        dataset.prepare(raw)


@pytest.mark.parametrize(("member", "archive"), [
    (f"{VOC}/JPEGImages/{MORE[0]}.jpg", "VOCtrainval_11-May-2012.tar"),
    (f"{VOC}/SegmentationClass/{CLEAN[1]}.png", "VOCtrainval_11-May-2012.tar"),
    (f"{VOC}/SegmentationClass/{VAL[0]}.png", "VOCtrainval_11-May-2012.tar"),
    (f"{VOC}/ImageSets/Segmentation/val.txt", "VOCtrainval_11-May-2012.tar"),
    (f"{SBD}/cls/{MORE[3]}.mat", MASKS),
    (f"{SBD}/train.txt", MASKS),
])  # fmt: skip
def test_a_missing_member_is_named_at_the_door(tmp_path, raw, member, archive):
    assert f"{archive}: has no member {member}" in spoilt(tmp_path, raw, leave_out=member)


def test_after_a_refusal_nothing_passes_for_whole(tmp_path, raw):
    spoilt(tmp_path, raw, leave_out=f"{SBD}/cls/{MORE[3]}.mat")
    assert not voc_data.expecting("voc", tmp_path / "mirror", voc_data.COUNTS).present(raw)


def test_lists_of_another_length_are_refused(tmp_path, raw):
    text = spoilt(tmp_path, raw, counts={"train": 10_582, "val": 1_449})
    assert "have {'train': 12, 'val': 3} images, expected {'train': 10582, 'val': 1449}" in text


def test_a_damaged_mat_file_is_named(tmp_path, raw):
    member = f"{SBD}/cls/{MORE[1]}.mat"
    data = voc_data.sbd_files()[member]
    text = spoilt(tmp_path, raw, changes={member: data[:150] + b"garbage" + data[157:]})
    assert f"{MASKS}: {member}: no GTcls.Segmentation, the file is damaged" in text


def test_a_damaged_image_is_named(tmp_path, raw):
    member = f"{VOC}/JPEGImages/{CLEAN[2]}.jpg"
    text = spoilt(tmp_path, raw, changes={member: voc_data.voc_files()[member][:300]})
    assert f"VOCtrainval_11-May-2012.tar: {member}: cannot be decoded" in text


@pytest.mark.parametrize(("identity", "member"), [
    (MORE[0], f"{SBD}/cls/{MORE[0]}.mat"),
    (VAL[0], f"{VOC}/SegmentationClass/{VAL[0]}.png"),
])  # fmt: skip
def test_a_label_that_is_no_class_is_named_with_its_file(tmp_path, raw, identity, member):
    mask = voc_data.picture(identity)[1]
    mask[:2, :3] = 21
    bad = voc_data.mat(mask) if member.endswith("mat") else voc_data.png(mask, voc_data.PALETTE)
    assert f"{member}: label 21 at 6 pixels" in spoilt(tmp_path, raw, changes={member: bad})


def test_a_mask_of_another_size_is_named(tmp_path, raw):
    member = f"{SBD}/cls/{MORE[0]}.mat"
    bad = voc_data.mat(voc_data.picture(MORE[0])[1][:-1])
    assert f"{member}: the mask has" in spoilt(tmp_path, raw, changes={member: bad})


def test_classes_and_colours_are_those_of_voc():
    dataset = load_dataset("voc")
    bits = [[sum(((label >> (3 * i + c)) & 1) << (7 - i) for i in range(8)) for c in range(3)] for label in range(21)]
    assert [list(colour) for colour in dataset.palette] == bits
    assert len(set(dataset.classes)) == 21
