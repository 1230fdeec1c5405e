"""Images of the same bytes, at the door."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from folder_data import RAW, every_id, fault, ids, labels, png, prepared, write_images

LISTS = {"shares": None, "lists": {"val": "val.txt"}}


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch) -> Path:
    """Ten images with masks; p0 and p1 are the validation part."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path)
    (tmp_path / "val.txt").write_text("p0\np1\n")
    return tmp_path


def copy(checkout: Path, one: str, *others: str) -> None:
    for other in others:
        shutil.copy(checkout / f"photos/{one}.png", checkout / f"photos/{other}.png")


def test_all_pairs_are_found_at_once_with_their_number(checkout):
    copy(checkout, "p0", "p5", "p6")
    copy(checkout, "p1", "p7")
    found = fault(**LISTS)
    assert "4 pairs of images with the same bytes (5 images), in two parts: 'p0' (val) and 'p5' (train)" in found
    assert "all in data/raw/mine/duplicates.txt" in found
    assert "`duplicates: drop`" in found
    assert (RAW / "duplicates.txt").read_text() == (
        "val\tp0\tphotos/p0.png\ntrain\tp5\tphotos/p5.png\ntrain\tp6\tphotos/p6.png\n\n"
        "val\tp1\tphotos/p1.png\ntrain\tp7\tphotos/p7.png\n"
    )


def test_dropped_duplicates_leave_the_one_that_is_scored(checkout, capsys):
    copy(checkout, "p0", "p5", "p6")
    copy(checkout, "p8", "p9")
    found = ids(prepared(**LISTS, duplicates="drop"))
    assert found == {"train": ["p2", "p3", "p4", "p7", "p8"], "val": ["p0", "p1"], "test": []}
    assert "3 images dropped whose bytes another one has, see data/raw/mine/duplicates.txt" in capsys.readouterr().err


def test_of_equal_training_images_the_one_with_a_mask_stays(checkout):
    copy(checkout, "p8", "p5")
    (checkout / "masks/p5.png").unlink()
    assert "p8" in every_id(prepared(**LISTS, duplicates="drop", unlabelled=True))
    assert "p5" not in every_id(prepared(**LISTS, duplicates="drop", unlabelled=True))


def test_empty_tiles_are_one_tile(checkout):
    """Satellite images are cut into tiles of which many are the same black square."""
    for name in ("p1", "p4", "p5", "p6"):
        (checkout / f"photos/{name}.png").write_bytes(png(np.zeros((12, 16, 3), np.uint8)))
        (checkout / f"masks/{name}.png").write_bytes(png(np.zeros((12, 16), np.uint8)))
    assert ids(prepared(**LISTS, duplicates="drop"))["train"] == ["p2", "p3", "p7", "p8", "p9"]


def test_duplicates_within_a_part_are_told(checkout, capsys):
    copy(checkout, "p8", "p9")
    assert len(every_id(prepared(**LISTS))) == 10
    assert "1 pair of images with the same bytes (2 images), all within one part" in capsys.readouterr().err


def test_a_list_of_duplicates_goes_when_there_are_none_any_more(checkout):
    copy(checkout, "p0", "p5")
    fault(**LISTS)
    (checkout / "photos/p5.png").write_bytes(png(labels(77)[..., None].repeat(3, 2)))
    prepared(**LISTS)
    assert {path.name for path in RAW.iterdir()} == {"manifest.json"}
