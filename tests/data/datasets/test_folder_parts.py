"""Which images are for training, validation and test."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from folder_data import fault, ids, prepared, write_images


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch) -> Path:
    """Ten images with masks, in a checkout that is the current folder."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path)
    return tmp_path


def listed(text: str, **changes) -> dict[str, list[str]]:
    Path("val.txt").write_text(text, encoding="utf-8", newline="")
    return ids(prepared(shares=None, lists={"val": "val.txt"}, **changes))


@pytest.mark.parametrize(
    "text",
    [
        "p1\np3\n",
        "p1.png\r\np3.PNG\r\n",
        "photos/p1.png\nphotos/p3.png",
        "photos/p1.png masks/p1.png\nphotos/p3.png masks/p3.png",
        "photos\\p1.png\tmasks\\p1.png\nphotos\\p3.png\tmasks\\p3.png",
        "/old/place/photos/p1.jpg,x\n\n/old/place/photos/p3.jpg,y\n",
        "\ufeffp1\n  p3  ",
    ],
)
def test_a_list_may_be_written_in_many_ways(text):
    assert listed(text)["val"] == ["p1", "p3"]


def test_a_list_may_name_files_whose_ids_are_shorter(checkout):
    for path in sorted((checkout / "photos").iterdir()):
        path.rename(path.with_name(f"shot {path.stem} final.png"))
    assert listed("photos/shot p1 final.png\nshot p3 final.png", images="photos/shot * final.png")["val"] == [
        "p1",
        "p3",
    ]


def test_a_list_names_ids_with_folders(checkout):
    for kind in ("photos", "masks"):
        (checkout / kind / "cam1").mkdir()
        for index in (1, 3):
            (checkout / kind / f"p{index}.png").rename(checkout / kind / "cam1" / f"p{index}.png")
    found = listed("cam1/p1.png\nphotos/cam1/p3.png", images="photos/**/*.png", masks="masks/**/*.png", ids="path")
    assert found["val"] == ["cam1/p1", "cam1/p3"]


def test_a_list_names_ids_in_any_form_of_unicode(checkout):
    for kind in ("photos", "masks"):
        (checkout / kind / "p1.png").rename(checkout / kind / unicodedata.normalize("NFD", "Müll.png"))
    assert listed(unicodedata.normalize("NFC", "Müll"))["val"] == ["Müll"]


def test_what_a_list_names_that_is_not_there_is_told_with_an_example():
    Path("val.txt").write_text("q7.png masks/q7.png\n")
    found = fault(shares=None, lists={"val": "val.txt"})
    assert "val.txt, line 1: no image has the id 'q7' (they are like 'p0')" in found


def test_a_list_lies_in_the_home_folder(checkout, monkeypatch):
    monkeypatch.setenv("HOME", str(checkout))
    (checkout / "val.txt").write_text("p1")
    assert ids(prepared(shares=None, lists={"val": "~/val.txt"}))["val"] == ["p1"]


def move(checkout: Path) -> None:
    """The layout that segmentation toolboxes share: a folder for each part."""
    for index in range(10):
        part = "val" if index < 2 else "test" if index < 4 else "train"
        for kind in ("photos", "masks"):
            (checkout / kind / part).mkdir(exist_ok=True)
            (checkout / kind / f"p{index}.png").rename(checkout / kind / part / f"p{index}.png")


def test_parts_may_be_folders(checkout):
    move(checkout)
    where = {"images": "photos/**/*.png", "masks": "masks/**/*.png", "shares": None}
    found = ids(prepared(**where, folders={"val": "photos/val", "test": "photos/test"}))
    assert (found["val"], found["test"], len(found["train"])) == (["p0", "p1"], ["p2", "p3"], 6)
    found = ids(prepared(**where, folders={"val": "photos/val", "train": "photos/tr*"}))
    assert (found["val"], found["test"], len(found["train"])) == (["p0", "p1"], [], 6)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({"val": "photos/vall"}, "folders.val: no image lies in photos/vall"),
        ({"val": "photos", "test": "photos/test"}, "folders.test: 'p2' is in val already"),
    ],
)
def test_folders_that_cannot_be_meant_are_refused(checkout, folders, message):
    move(checkout)
    assert message in fault(images="photos/**/*.png", masks="masks/**/*.png", shares=None, folders=folders)


def test_an_image_without_mask_in_the_folder_of_val_is_refused(checkout):
    move(checkout)
    (checkout / "masks/val/p1.png").unlink()
    found = fault(images="photos/**/*.png", masks="masks/**/*.png", shares=None, folders={"val": "photos/val"},
                  unlabelled=True)  # fmt: skip
    assert "folders.val: 'p1' has no mask, which val needs" in found


def test_two_ways_to_part_are_refused():
    found = fault(folders={"val": "photos"})
    assert "give either shares (val, test, seed), lists, or folders (both val, test, train)" in found
