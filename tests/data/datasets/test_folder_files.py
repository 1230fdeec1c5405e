"""Which files are images and masks, which belong together, and what is said of all others."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from folder_data import describe, every_id, fault, labels, pixels, png, prepared, write_images
from PIL import Image

from rc2l_bench.data.datasets.folder import Folder
from rc2l_bench.data.datasets.registry import load_dataset


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch) -> Path:
    """Ten images with masks, in a checkout that is the current folder."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path)
    return tmp_path


def beside(checkout: Path, ending: str = "_mask.png", count: int = 10) -> None:
    """Moves masks into the folder of the images."""
    for index in range(count):
        (checkout / f"masks/p{index}.png").rename(checkout / f"photos/p{index}{ending}")


def folder(**changes) -> Folder:
    describe(**changes)
    found = load_dataset("mine")
    assert isinstance(found, Folder)
    return found


def test_what_matches_masks_is_no_image(checkout):
    beside(checkout)
    dataset = folder(images="photos", masks="photos/*_mask.png")
    assert list(dataset.files.images) == [f"p{index}" for index in range(10)]
    assert dataset.left() is None


@pytest.mark.parametrize("ending", ["_mask.png", "_labels.png", "_gt.png", "-seg.png", " annotation.png"])
@pytest.mark.parametrize("unlabelled", [True, False])
def test_a_mask_in_the_folder_of_the_images_is_not_taken_for_one(checkout, ending, unlabelled):
    """Nine of them, and that of the validation image: they would have become training images."""
    for index in range(9):
        shutil.copy(checkout / f"masks/p{index}.png", checkout / f"photos/p{index}{ending}")
    found = fault(unlabelled=unlabelled)
    assert f"photos/p0{ending}: looks like a mask of image 'p0' (and 8 more)" in found
    assert f"`exclude: 'photos/*{ending}'`" in found


def test_a_grey_picture_beside_one_in_colour_looks_like_its_mask(checkout):
    shutil.copy(checkout / "masks/p3.png", checkout / "photos/p3_2.png")
    assert "photos/p3_2.png: looks like a mask of image 'p3'" in fault(unlabelled=True)


def test_a_second_picture_of_a_scene_is_no_mask(checkout):
    (checkout / "photos/p3_2.png").write_bytes(png(pixels(50)))
    assert "p3_2" in every_id(prepared(unlabelled=True))


def test_what_is_excluded_is_not_looked_at(checkout):
    beside(checkout, "_mask.png")
    shutil.copytree(checkout / "photos", checkout / "both")
    for path in (checkout / "both").glob("*_mask.png"):
        path.rename(checkout / "masks" / path.name.replace("_mask", ""))
    assert len(every_id(prepared(exclude="photos/*_mask.png"))) == 10


def test_an_empty_exclude_says_that_all_are_images(checkout):
    (checkout / "photos/p3_segment.png").write_bytes(png(pixels(50)))
    assert "looks like a mask" in fault(unlabelled=True)
    assert "p3_segment" in every_id(prepared(unlabelled=True, exclude=[]))


def test_an_excluded_picture_takes_its_mask_along_only_if_that_is_excluded_too(checkout):
    assert "masks/p3.png: a mask without an image" in fault(exclude="photos/p3.png")
    assert "p3" not in every_id(prepared(exclude="*/p3.png"))


def test_several_masks_of_one_image_are_named(checkout):
    (checkout / "more").mkdir()
    shutil.copy(checkout / "masks/p3.png", checkout / "more/p3.png")
    found = fault(masks=["masks", "more"])
    assert "two masks have the id 'p3': masks/p3.png and more/p3.png" in found


def test_frames_of_several_videos_have_the_same_names(checkout):
    for video in ("cam1", "cam2"):
        for kind in ("photos", "masks"):
            (checkout / kind / video).mkdir()
            for index in range(5):
                target = checkout / kind / video / f"{index:04d}.png"
                (checkout / kind / f"p{index + 5 * (video == 'cam2')}.png").rename(target)
    assert "where folders belong to the name, write `ids: path`" in fault(
        images="photos/*/*.png", masks="masks/*/*.png"
    )
    found = prepared(images="photos/*/*.png", masks="masks/*/*.png", ids="path")
    assert every_id(found) == sorted(f"{video}/{index:04d}" for video in ("cam1", "cam2") for index in range(5))


def test_names_of_two_hundred_bytes_are_ids(checkout):
    long = "straße_" * 25
    for kind in ("photos", "masks"):
        (checkout / kind / "p3.png").rename(checkout / kind / f"{long}.png")
    assert long in every_id(prepared())


def test_images_and_masks_pair_in_any_form_of_unicode(checkout):
    (checkout / "photos/p3.png").rename(checkout / "photos" / unicodedata.normalize("NFD", "é.png"))
    (checkout / "masks/p3.png").rename(checkout / "masks" / unicodedata.normalize("NFC", "é.png"))
    assert "é" in every_id(prepared())


def test_a_suffix_in_capitals_is_a_suffix(checkout):
    (checkout / "photos/p3.png").unlink()
    (checkout / "photos/p3.JPG").write_bytes(png(pixels(3), "jpg"))
    (checkout / "masks/p3.png").rename(checkout / "masks/p3.PNG")
    assert len(every_id(prepared(images=["photos/*.png", "photos/*.jpg"], masks="masks/*.png"))) == 10


def test_every_file_that_is_not_used_is_counted_with_a_reason_and_an_example(checkout):
    for name in ("notes.txt", "Thumbs.db", ".p1.png", "old/q.png", "old/r.png"):
        (checkout / "photos" / name).parent.mkdir(exist_ok=True)
        (checkout / "photos" / name).write_bytes(b"x")
    (checkout / "masks/p1_colour.png").write_bytes(b"x")
    left = folder(exclude="masks/*_colour.png").left()
    assert left == (
        "6 files not used: 1 excluded (masks/p1_colour.png), 1 hidden (photos/.p1.png), "
        "2 no picture (photos/Thumbs.db), 2 in a sub-folder (photos/old/q.png)"
    )


def test_images_in_no_list_and_files_unlike_the_pattern_are_counted(checkout):
    (checkout / "val.txt").write_text("p0\np1\n")
    (checkout / "train.txt").write_text("p2\n")
    (checkout / "photos/q7.png").write_bytes(b"x")
    lists = {"val": "val.txt", "train": "train.txt"}
    left = folder(images="photos/p*.png", masks="masks/p*.png", shares=None, lists=lists).left()
    assert left == "8 files not used: 1 not like 'photos/p*.png' (photos/q7.png), 7 in no part (photos/p3.png)"


def test_what_is_not_used_is_said_when_the_images_are_read(checkout, capsys):
    (checkout / "photos/notes.txt").touch()
    prepared()
    assert capsys.readouterr().err == "datasets/mine.yaml: 1 file not used: 1 no picture (photos/notes.txt)\n"


def test_a_picture_with_an_orientation_is_refused_until_it_is_said_what_it_means(checkout):
    exif = Image.Exif()
    exif[0x0112] = 6
    for index in (3, 4):
        Image.fromarray(pixels(index, 16, 16)).save(checkout / f"photos/p{index}.png", exif=exif)
        (checkout / f"masks/p{index}.png").write_bytes(png(labels(index, 16, 16)))
    found = fault()
    assert "photos/p3.png: is to be turned by its Exif orientation, 6" in found
    assert "`exif: apply`" in found
    assert "`exif: ignore`" in found


@pytest.mark.parametrize("exif", ["apply", "ignore"])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_square_picture_lies_on_its_mask_as_the_description_says(checkout, exif, kind):
    """The mask is the dark quarter of the picture: in the wrong direction they would not overlap at all."""
    from rc2l_bench.data.decode import decode_image, decode_mask

    stored = np.full((16, 16, 3), 240, np.uint8)
    stored[:8, :8] = 10  # top left; orientation 6 turns it to the top right
    shown = np.rot90(stored, -1)
    mask = ((shown if exif == "apply" else stored)[..., 0] < 128).astype(np.uint8)
    tag = Image.Exif()
    tag[0x0112] = 6
    for index in range(10):
        (checkout / f"photos/p{index}.png").unlink()
        picture = stored.copy()
        picture[-1, -1] = 200 + index  # no two alike
        Image.fromarray(picture).save(checkout / f"photos/p{index}.{kind}", quality=95, exif=tag)
        (checkout / f"masks/p{index}.png").write_bytes(png(mask))
    dataset = prepared(exif=exif, classes=["light", "dark"])
    for sample in dataset.samples(Path("data/raw/mine"), "train"):
        dark = decode_image(sample.image)[..., 0] < 128
        assert np.array_equal(dark, decode_mask(sample.mask) == 1)


def test_the_canvas_is_that_of_the_pictures_as_they_are_used(checkout):
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.fromarray(pixels(3, 12, 40)).save(checkout / "photos/p3.png", exif=tag)
    assert prepared(exif="apply").canvas == (40, 16)
    assert prepared(exif="ignore").canvas == (12, 40)
