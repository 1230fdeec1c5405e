"""Pictures and tables of predictions: what is in them, and that they are there as a whole or not at all."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rc2l_bench.deployment.prediction_files import (
    ClassShares,
    Extras,
    PhotoWriter,
    blend,
    require_own,
    write_origin,
    write_shares,
)
from rc2l_bench.deployment.windows import Band
from rc2l_bench.errors import UsageError

PALETTE = [(0, 0, 0), (255, 0, 0), (0, 0, 255)]
SIZE = (7, 5)
BOTH = Extras(overlay=True, confidence=True)


@pytest.mark.parametrize("folder", ["masks", "overlays", "confidence"])
def test_pictures_of_somebody_else_are_not_replaced(tmp_path, folder):
    require_own(tmp_path)
    require_own(tmp_path / "new")
    (tmp_path / folder).mkdir()
    require_own(tmp_path)
    (tmp_path / folder / "a.png").touch()
    with pytest.raises(UsageError, match=f"{folder}: has files, and no prediction.json"):
        require_own(tmp_path)
    write_origin(tmp_path, {})
    require_own(tmp_path)


def test_results_need_a_folder(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(UsageError, match="expected a folder"):
        require_own(tmp_path / "a.png")


def shares(image: str = "a.jpg") -> ClassShares:
    return ClassShares(image, "masks/a.png", SIZE, "whole", np.zeros(3, np.int64))


def bands() -> list[Band]:
    """A picture in two bands of three and four rows."""
    rng = np.random.default_rng(0)
    return [
        Band(
            rng.integers(0, 256, (rows, 5, 3), np.uint8), rng.integers(0, 3, (rows, 5), np.uint8),
            rng.random((rows, 5), np.float32),
        )
        for rows in (3, 4)
    ]  # fmt: skip


def written(out: Path, extras: Extras) -> ClassShares:
    row = shares()
    with PhotoWriter(out, "a", row, PALETTE, extras) as writer:
        for band in bands():
            writer.write(band)
    return row


def opened(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_bands_become_one_picture_of_each_kind(tmp_path):
    written(tmp_path, BOTH)
    pixels, classes, confidence = (np.concatenate(parts) for parts in zip(*bands(), strict=True))
    assert np.array_equal(opened(tmp_path / "masks/a.png"), classes)
    assert np.array_equal(opened(tmp_path / "overlays/a.png"), blend(pixels, np.array(PALETTE, np.uint8)[classes]))
    assert np.abs(opened(tmp_path / "confidence/a.png") - 255 * confidence).max() <= 0.501
    assert Image.open(tmp_path / "masks/a.png").getpalette()[:9] == [value for colour in PALETTE for value in colour]


def test_only_what_is_asked_for_is_written(tmp_path):
    written(tmp_path, Extras(confidence=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confidence", "masks"]


def test_a_row_of_the_table_counts_what_was_written(tmp_path):
    row = written(tmp_path, Extras())
    _, classes, confidence = (np.concatenate(parts) for parts in zip(*bands(), strict=True))
    count = np.bincount(classes.ravel(), minlength=3) / 35
    assert row.row()[:5] == ["a.jpg", "masks/a.png", "7", "5", "whole"]
    assert [float(value) for value in row.row()[5:]] == pytest.approx([confidence.mean(), *count], abs=1e-6)


def test_what_ends_in_the_middle_leaves_no_picture(tmp_path):
    def fail() -> None:
        with PhotoWriter(tmp_path, "a", shares(), PALETTE, BOTH) as writer:
            writer.write(bands()[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_cannot_be_opened_leaves_nothing_of_the_others(tmp_path):
    (tmp_path / "confidence").write_text("in the way")
    with pytest.raises(OSError):
        PhotoWriter(tmp_path, "a", shares(), PALETTE, BOTH)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["confidence"]


def test_colours_lie_half_over_a_photo():
    pixels, colours = np.array([[[0, 100, 255]]], np.uint8), np.array([[[255, 0, 255]]], np.uint8)
    assert blend(pixels, colours).tolist() == [[[128, 50, 255]]]


def test_the_table_takes_any_name(tmp_path):
    """A name of a file that is no text, and classes with commas."""
    strange = 'b,"\udcff\n.jpg'
    write_shares(tmp_path, [shares(), shares(strange)], ["sky", "road, wet"])
    with (tmp_path / "shares.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["image", "mask", "height", "width", "view", "confidence", "share_sky", "share_road, wet"]
    assert [row[0] for row in rows] == ["a.jpg", strange]


def test_the_origin_is_json(tmp_path):
    write_origin(tmp_path, {"fingerprint": "f"})
    assert json.loads((tmp_path / "prediction.json").read_text()) == {"fingerprint": "f"}
