"""The user's own images: what is found, how parts are drawn, what masks may be, and one line for every mistake."""

from __future__ import annotations

from itertools import chain, product
from pathlib import Path

import numpy as np
import pytest
from folder_data import COLOURS, RAW, RED_GREEN_BLUE, describe, fault, ids, labels, pixels, png, prepared, write_images
from PIL import Image

from rc2l_bench.data.datasets.held_out import HeldOut
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.decode import decode_mask
from rc2l_bench.errors import BenchError


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """Ten images with masks, in a checkout that is the current folder."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path)
    return tmp_path


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "data" / "raw" / "mine"


def test_image_bytes_and_index_masks_come_through_untouched(raw, checkout):
    dataset = prepared(raw)
    for sample in dataset.samples(raw, "train"):
        assert sample.image == (checkout / "photos" / f"{sample.id}.png").read_bytes()
        assert sample.mask == (checkout / "masks" / f"{sample.id}.png").read_bytes()


def test_shares_give_every_part_its_number_and_together_all_ids(raw):
    found = ids(prepared(raw), raw)
    assert {part: len(names) for part, names in found.items()} == {"train": 7, "val": 2, "test": 1}
    assert sorted(chain(*found.values())) == [f"p{index}" for index in range(10)]


def test_another_seed_draws_other_parts_and_the_same_seed_the_same(raw):
    draws = [ids(prepared(raw, shares={"val": 0.4, "test": 0.2, "seed": seed}), raw) for seed in (0, 1, 0)]
    assert draws[0] == draws[2] != draws[1]


def test_parts_do_not_depend_on_the_order_in_which_files_were_made(raw, checkout):
    before = ids(prepared(raw), raw)
    files = {path: path.read_bytes() for path in sorted((checkout / "photos").iterdir(), reverse=True)}
    for path in files:
        path.unlink()
    for path, data in files.items():
        path.write_bytes(data)
    assert ids(prepared(raw), raw) == before


def test_lists_decide_and_train_gets_the_rest(raw, checkout):
    (checkout / "val.txt").write_text("﻿p3\r\n\r\np1\r\n", encoding="utf-8")
    (checkout / "test.txt").write_text("p9")
    found = ids(prepared(raw, shares=None, lists={"val": "val.txt", "test": "test.txt"}), raw)
    assert (found["val"], found["test"]) == (["p1", "p3"], ["p9"])
    assert found["train"] == ["p0", "p2", "p4", "p5", "p6", "p7", "p8"]


def test_a_list_of_train_leaves_all_others_out(raw, checkout):
    (checkout / "val.txt").write_text("p3")
    (checkout / "train.txt").write_text("p2\np0\n")
    assert ids(prepared(raw, shares=None, lists={"val": "val.txt", "train": "train.txt"}), raw) == {
        "train": ["p0", "p2"],
        "val": ["p3"],
        "test": [],
    }


def test_images_without_a_mask_are_train_when_allowed(raw, checkout):
    for index in (0, 1, 2):
        (checkout / "masks" / f"p{index}.png").unlink()
    dataset = prepared(raw, unlabelled=True)
    bare = [sample.id for sample in dataset.samples(raw, "train") if sample.mask is None]
    assert bare == ["p0", "p1", "p2"]


def test_the_last_star_is_the_id_whatever_surrounds_it(raw, checkout):
    for index in range(10):
        deep = checkout / "deep" / f"city{index % 2}"
        deep.mkdir(parents=True, exist_ok=True)
        (checkout / "photos" / f"p{index}.png").rename(deep / f"x_p{index}_photo.JPG.png")
        (checkout / "masks" / f"p{index}.png").rename(deep / f"x_p{index}_mask.png")
    (checkout / "deep" / "notes.txt").write_text("not an image")
    found = ids(prepared(raw, images="deep/**/x_*_photo.JPG.png", masks=["deep/*/x_*_mask.png"]), raw)
    assert sorted(chain(*found.values())) == [f"p{index}" for index in range(10)]


def test_several_folders_are_one_dataset(raw, checkout):
    (checkout / "more").mkdir()
    (checkout / "photos" / "p4.png").rename(checkout / "more" / "p4.png")
    assert sum(map(len, ids(prepared(raw, images=["photos", "more"]), raw).values())) == 10


def test_other_files_in_a_folder_are_passed_over(raw, checkout):
    for name in ("Thumbs.db", ".DS_Store", ".p1.png", "readme.txt"):
        (checkout / "photos" / name).write_bytes(b"rubbish")
    assert sum(map(len, ids(prepared(raw), raw).values())) == 10


def test_the_suffix_says_what_the_bytes_are_and_not_what_the_name_claims(raw, checkout):
    (checkout / "photos" / "p0.png").unlink()
    (checkout / "photos" / "p0.JPEG").write_bytes(png(pixels(0), "jpg"))
    (checkout / "photos" / "p1.png").write_bytes(png(pixels(1), "jpg"))
    dataset = prepared(raw)
    found = {sample.id: sample.suffix for part in ("train", "val", "test") for sample in dataset.samples(raw, part)}
    assert (found["p0"], found["p1"], found["p2"]) == ("jpg", "jpg", "png")


def test_the_canvas_is_the_largest_height_and_width_found_unless_given(checkout):
    (checkout / "photos" / "p0.png").write_bytes(png(pixels(0, height=30, width=8)))
    (checkout / "photos" / "p1.png").write_bytes(png(pixels(0, height=8, width=40)))
    assert prepared().canvas == (30, 40)
    assert prepared(canvas=[64, 96]).canvas == (64, 96)


def test_a_canvas_that_is_not_known_yet_is_asked_for(checkout):
    describe()
    with pytest.raises(BenchError, match=r"manifest\.json: missing: run `rc2l-bench data fetch mine`"):
        load_dataset("mine").meta()


def test_tuning_opens_no_image_that_is_scored(checkout):
    """They are gone after they were hashed, and everything that tuning asks for is there all the same."""
    scored = [sample.id for part in ("val", "test") for sample in prepared().samples(RAW, part)]
    for folder, identity in product(("photos", "masks"), scored):
        (checkout / folder / f"{identity}.png").unlink()
    tuning = HeldOut(load_dataset("mine"), 0.5, 0)
    assert tuning.meta()["canvas"] == [12, 16]
    found = [sample.id for part in ("train", "val") for sample in tuning.samples(Path("data/raw/tuning-mine"), part)]
    assert len(found) == 7


def test_colour_masks_become_indices_and_ignored_colours_255(raw, checkout):
    colours = np.concatenate([RED_GREEN_BLUE, [[9, 9, 9]]]).astype(np.uint8)
    wanted = {}
    for index in range(10):
        label = np.random.default_rng(index).integers(0, 4, (12, 16))
        wanted[f"p{index}"] = np.where(label == 3, 255, label)
        (checkout / "masks" / f"p{index}.png").write_bytes(png(colours[label]))
    dataset = prepared(raw, masks_hold="colours", colours=COLOURS, ignore_colours=[[9, 9, 9]])
    for sample in dataset.samples(raw, "train"):
        assert np.array_equal(decode_mask(sample.mask), wanted[sample.id])


def test_a_palette_mask_keeps_its_indices(raw, checkout):
    for index in range(10):
        image = Image.fromarray(labels(index))
        image.putpalette([channel for colour in COLOURS for channel in colour])
        image.save(checkout / "masks" / f"p{index}.png")
    sample = next(prepared(raw).samples(raw, "train"))
    assert np.array_equal(decode_mask(sample.mask), labels(int(sample.id[1:])))
    assert sample.mask[24] == 8  # bits per channel, which Pillow makes 2 for a palette of 3


def test_further_ignored_values_become_255(raw, checkout):
    for index in range(10):
        (checkout / "masks" / f"p{index}.png").write_bytes(png(labels(index) + np.uint8(5) * (labels(index) == 2)))
    sample = next(prepared(raw, ignore=[7], classes=["a", "b"]).samples(raw, "train"))
    before = labels(int(sample.id[1:]))
    assert np.array_equal(decode_mask(sample.mask), np.where(before == 2, 255, before))


def test_a_second_prepare_changes_nothing(raw):
    dataset = prepared(raw)
    state = (raw / "manifest.json").stat().st_mtime_ns
    dataset.prepare(raw)
    assert (raw / "manifest.json").stat().st_mtime_ns == state


def test_a_file_that_changes_after_prepare_is_noticed_by_verify_and_by_reading(raw, checkout):
    dataset = prepared(raw)
    dataset.verify(raw)
    (checkout / "masks" / "p5.png").write_bytes(png(labels(99)))
    with pytest.raises(BenchError, match=r"masks/p5\.png: has changed"):
        dataset.verify(raw)
    with pytest.raises(BenchError, match=r"masks/p5\.png: has changed"):
        [list(dataset.samples(raw, part)) for part in ("train", "val", "test")]


def test_a_description_that_changes_after_prepare_is_noticed(raw):
    prepared(raw)
    describe(classes=["a", "b", "c", "d"])
    with pytest.raises(BenchError, match=r"mine\.yaml has changed"):
        next(load_dataset("mine").samples(raw, "train"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [("", "empty"), ("p1\nq", "line 2: no image has the id 'q'"), ("p1\n\np1", "line 3: 'p1' is in val already")],
)
def test_a_wrong_list_is_named_with_its_line(raw, checkout, lines, message):
    (checkout / "val.txt").write_text(lines)
    assert message in fault(raw, shares=None, lists={"val": "val.txt"})


def test_a_listed_validation_image_without_mask_is_refused(raw, checkout):
    (checkout / "masks" / "p1.png").unlink()
    (checkout / "val.txt").write_text("p1")
    assert "'p1' has no mask" in fault(raw, shares=None, lists={"val": "val.txt"}, unlabelled=True)


def test_a_mask_without_image_is_named(raw, checkout):
    (checkout / "photos" / "p3.png").unlink()
    assert "masks/p3.png: a mask without an image" in fault(raw, unlabelled=True)


def test_an_image_without_mask_is_named_with_what_to_do(raw, checkout):
    (checkout / "masks" / "p3.png").unlink()
    (checkout / "masks" / "p5.png").unlink()
    found = fault(raw)
    assert "photos/p3.png: an image without a mask (and 1 more)" in found
    assert "unlabelled: true" in found


def test_two_images_with_one_id_are_both_named(raw, checkout):
    (checkout / "photos" / "p3.jpg").write_bytes(png(pixels(3), "jpg"))
    found = fault(raw)
    assert "photos/p3.jpg" in found
    assert "photos/p3.png" in found


def test_a_format_that_is_not_read_is_named_and_not_passed_over(raw, checkout):
    (checkout / "photos" / "extra.tif").write_bytes(b"II*\0")
    assert "photos/extra.tif: images must be .png or .jpg or .jpeg" in fault(raw)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\nb.png", "must be printable"), ("d\n/b.png", "must be printable"), ("d\udcff/b.png", "must be printable"),
        ("x\\y.png", "its id must be without"),
    ],
)  # fmt: skip
def test_a_file_name_that_cannot_be_an_id_is_refused(raw, checkout, name, message):
    path = checkout / "photos" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(png(pixels(0)))
    assert message in fault(raw, images="photos/**/*.png")


def test_a_file_that_is_no_image_is_named(raw, checkout):
    (checkout / "photos" / "p3.png").write_bytes(b"<html>not found</html>")
    assert "photos/p3.png: neither a PNG nor a JPEG" in fault(raw, canvas=[64, 64])


def test_a_jpeg_cannot_be_a_mask(raw, checkout):
    (checkout / "masks" / "p6.png").write_bytes(png(labels(6), "jpg"))
    assert "masks/p6.png: not a PNG" in fault(raw)


def test_a_damaged_manifest_is_named_with_what_to_do(raw):
    dataset = prepared(raw)
    (raw / "manifest.json").write_bytes((raw / "manifest.json").read_bytes()[:-20])
    with pytest.raises(BenchError, match="rc2l-bench data fetch mine"):
        next(dataset.samples(raw, "train"))
