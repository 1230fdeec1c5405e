"""CamVid, on the real archive where there is one."""

from __future__ import annotations

import os
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from fetch_data import mirror

from rc2l_bench.data.datasets import camvid
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.decode import decode_image, decode_mask
from rc2l_bench.data.fetch import MIRROR
from rc2l_bench.errors import BenchError

PARTS = {"train": 367, "val": 101, "test": 233}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """The real files, fetched once."""
    folder = mirror()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MIRROR, str(folder))
        raw = tmp_path_factory.mktemp("data") / "camvid"
        load_dataset("camvid").prepare(raw)
    return raw


@pytest.fixture
def copy(raw, tmp_path):
    """The same files, to be spoiled: links, so that nothing is copied."""
    return shutil.copytree(raw, tmp_path / "camvid", copy_function=os.link)


def pack(folder, source, *, leave_out=()):
    """Another archive of some files, in another order, with members that nobody wants."""
    folder.mkdir()
    name = load_dataset("camvid").sources[0].name
    with tarfile.open(folder / name, "w") as tar:
        link = tarfile.TarInfo("top/Models/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for path in sorted(source.rglob("*.png"), key=lambda path: path.name[::-1]):
            if path.name not in leave_out:
                tar.add(path, f"top/CamVid/{path.parent.name}/{path.name}")
    return folder


def test_the_archive_becomes_1402_files_and_nothing_else_is_left(raw):
    assert len(list(raw.rglob("*.png"))) == 1402
    assert {path.name for path in raw.parent.iterdir()} <= {"camvid", ".camvid.lock"}
    load_dataset("camvid").verify(raw)
    assert load_dataset("camvid").present(raw)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_has_its_number_of_samples_in_sorted_order(raw, part):
    ids = [sample.id for sample in load_dataset("camvid").samples(raw, part)]
    assert len(ids) == PARTS[part]
    assert ids == sorted(set(ids))


def test_image_bytes_are_the_file_and_masks_hold_classes_and_255(raw):
    dataset = load_dataset("camvid")
    seen = np.zeros(256, np.int64)
    for sample in dataset.samples(raw, "val"):
        assert sample.image == (raw / "val" / f"{sample.id}.png").read_bytes()
        seen += np.bincount(decode_mask(sample.mask).ravel(), minlength=256)
    assert decode_image(sample.image).shape == (*dataset.canvas, 3)
    assert set(np.flatnonzero(seen)) == {*range(11), 255}


def test_void_of_the_file_is_255_and_all_other_labels_stay(raw):
    sample = next(load_dataset("camvid").samples(raw, "train"))
    before = decode_mask((raw / "trainannot" / f"{sample.id}.png").read_bytes())
    after = decode_mask(sample.mask)
    assert (before == 11).any()
    assert np.array_equal(np.where(before == 11, 255, before), after)


def test_only_the_wanted_ids_are_read(raw):
    dataset = load_dataset("camvid")
    ids = [sample.id for sample in dataset.samples(raw, "train")]
    assert [sample.id for sample in dataset.samples(raw, "train", {ids[5], ids[2]})] == [ids[2], ids[5]]


def test_a_second_prepare_needs_no_archive_and_touches_nothing(raw, monkeypatch, tmp_path):
    monkeypatch.setattr(camvid, "fetch", lambda *_, **__: pytest.fail("the archive was asked for"))
    before = raw.stat().st_mtime_ns
    load_dataset("camvid").prepare(raw)
    assert raw.stat().st_mtime_ns == before


def test_an_archive_of_other_bytes_with_the_same_files_is_accepted(raw, tmp_path, monkeypatch):
    monkeypatch.setenv(MIRROR, str(pack(tmp_path / "mirror", raw)))
    load_dataset("camvid").prepare(tmp_path / "data" / "camvid")
    assert camvid.content_hash(tmp_path / "data" / "camvid") == (camvid.CONTENT, 1402)


def test_an_archive_that_lacks_a_file_is_refused_and_nothing_is_left(raw, tmp_path, monkeypatch):
    monkeypatch.setenv(MIRROR, str(pack(tmp_path / "mirror", raw / "val", leave_out={"0016E5_07959.png"})))
    with pytest.raises(BenchError, match=r"expected 1402 PNGs with content hash 0cb1e6b1\w+, got 100 with"):
        load_dataset("camvid").prepare(tmp_path / "data" / "camvid")
    assert {path.name for path in (tmp_path / "data").iterdir()} == {".camvid.lock", "camvid"}
    assert [path.suffix for path in (tmp_path / "data/camvid").iterdir()] == [".lock"]


def test_an_archive_that_a_person_put_where_the_message_says_is_used_and_stays(tmp_path, monkeypatch):
    real = mirror()
    monkeypatch.delenv(MIRROR, raising=False)
    dataset, raw = load_dataset("camvid"), tmp_path / "data" / "camvid"
    monkeypatch.setattr(camvid.CamVid, "sources", (replace(dataset.sources[0], url="http://127.0.0.1:9/gone"),))
    with pytest.raises(BenchError, match=rf"Put the file into {raw}, or"):
        dataset.prepare(raw)
    name = dataset.sources[0].name
    (raw / name).symlink_to(real / name)
    (raw / "notes.txt").write_text("mine")
    dataset.prepare(raw)
    dataset.verify(raw)
    assert (raw / name).exists()
    assert (raw / "notes.txt").read_text() == "mine"


def test_a_wrong_archive_that_a_person_put_there_is_kept_under_another_name(raw, tmp_path, monkeypatch):
    monkeypatch.delenv(MIRROR, raising=False)
    name = load_dataset("camvid").sources[0].name
    there = pack(tmp_path / "camvid", raw / "val")
    with pytest.raises(BenchError, match="got 101 with"):
        load_dataset("camvid").prepare(there)
    assert (there / f"{name}.wrong").is_file()
    assert not (there / name).exists()


def test_spoiled_files_are_noticed_and_prepare_brings_the_right_ones_back(copy, monkeypatch, capsys):
    victim = copy / "train" / "0001TP_006690.png"
    data = bytearray(victim.read_bytes())
    data[1000] ^= 1
    victim.unlink()
    victim.write_bytes(data)
    (copy / "testannot" / "0001TP_008550.png").unlink()
    with pytest.raises(BenchError, match="got 1401"):
        load_dataset("camvid").verify(copy)
    monkeypatch.setenv(MIRROR, str(mirror()))
    load_dataset("camvid").prepare(copy)
    load_dataset("camvid").verify(copy)
    assert "1401 PNGs, not the 1402 that are expected" in capsys.readouterr().err
    assert (copy / "train.wrong" / victim.name).read_bytes() == data
    assert len(list((copy / "testannot.wrong").iterdir())) == PARTS["test"] - 1
    assert not (copy / "val.wrong").exists()


def test_a_missing_mask_is_named(copy):
    (copy / "valannot" / "0016E5_07959.png").unlink()
    with pytest.raises(BenchError, match=r"valannot/0016E5_07959\.png: missing"):
        list(load_dataset("camvid").samples(copy, "val"))


def test_without_the_data_the_command_that_brings_it_is_named(tmp_path):
    with pytest.raises(BenchError, match="rc2l-bench data fetch camvid"):
        next(load_dataset("camvid").samples(tmp_path, "train"))


def test_classes_and_colours_are_as_many_and_distinct():
    dataset = load_dataset("camvid")
    assert len(dataset.classes) == len(set(dataset.classes)) == len(set(dataset.palette)) == 11
