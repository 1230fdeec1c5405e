from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rc2l_bench.deployment.png_writer import PngWriter

PALETTE = [(0, 0, 0), (255, 0, 0), (10, 20, 30)]


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@given(heights=st.lists(st.integers(0, 5), min_size=1, max_size=5), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_photo_comes_back_whatever_the_bands(tmp_path_factory, heights, width, seed):
    path, photo = tmp_path_factory.mktemp("png") / "x.png", pixels(seed, sum(heights) + 1, width, 3)
    with PngWriter(path, photo.shape[:2], None, 3) as writer:
        writer.write(photo[:1])
        for start, height in zip(np.cumsum([1, *heights]), heights, strict=False):
            writer.write(photo[start : start + height])
    found = Image.open(path)
    assert found.mode == "RGB"
    assert (np.array(found) == photo).all()


def test_classes_keep_their_numbers_and_show_the_palette(tmp_path):
    classes = pixels(0, 7, 11) % 3
    with PngWriter(tmp_path / "deep/x.png", (7, 11), PALETTE, 1) as writer:
        writer.write(classes)
    found = Image.open(tmp_path / "deep/x.png")
    assert found.mode == "P"
    assert (np.array(found) == classes).all()
    assert found.getpalette()[:9] == [0, 0, 0, 255, 0, 0, 10, 20, 30]
    assert found.getpalette()[9:12] == [255, 255, 255]
    assert (np.array(found.convert("RGB")) == np.array(PALETTE)[classes]).all()


def test_grey_comes_back(tmp_path):
    grey = pixels(1, 5, 6)
    with PngWriter(tmp_path / "x.png", (5, 6), None, 1) as writer:
        writer.write(grey)
    found = Image.open(tmp_path / "x.png")
    assert found.mode == "L"
    assert (np.array(found) == grey).all()


def test_a_file_that_is_not_finished_is_not_there(tmp_path):
    (tmp_path / "x.png").write_bytes(b"before")

    def write() -> None:
        with PngWriter(tmp_path / "x.png", (4, 4), None, 1) as writer:
            writer.write(pixels(0, 2, 4))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    assert (tmp_path / "x.png").read_bytes() == b"before"


def test_rows_that_are_missing_are_a_mistake(tmp_path):
    with pytest.raises(AssertionError, match="2 of 4 rows"), PngWriter(tmp_path / "x.png", (4, 4), None, 1) as writer:
        writer.write(pixels(0, 2, 4))
    assert list(tmp_path.iterdir()) == []
