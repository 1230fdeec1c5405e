from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from rc2l_bench.deployment import tiff_rows
from rc2l_bench.deployment.tiff_rows import open_tiff
from rc2l_bench.errors import BenchError, UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (70, 53, 3), np.uint8)
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strips": {"compression": "zlib", "rowsperstrip": 16},
    "one row a strip": {"compression": "lzw", "rowsperstrip": 1},
    "predictor": {"compression": "zlib", "predictor": True, "rowsperstrip": 9},
    "tiles": {"tile": (32, 16)},
    "packed tiles": {"tile": (16, 32), "compression": "lzw"},
    "big": {"bigtiff": True, "compression": "zstd", "rowsperstrip": 20},
    "big-endian": {"byteorder": ">", "rowsperstrip": 8, "compression": "packbits"},
}


def write(path: Path, pixels: np.ndarray = PIXELS, **layout: Any) -> Path:
    tifffile.imwrite(path, pixels, photometric=layout.pop("photometric", "rgb"), **layout)
    return path


def read(path: Path, step: int, window: int) -> np.ndarray:
    """The whole picture, put together from overlapping windows."""
    with open_tiff(path) as rows:
        height = rows.size[0]
        out = np.zeros((*rows.size, 3), np.uint8)
        for start in range(0, height, step):
            stop = min(start + window, height)
            out[start:stop] = rows.read(start, stop)
        return out


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("step", "window"), [(70, 70), (10, 17), (1, 1), (33, 40)])
def test_bands_make_up_the_picture(tmp_path, layout, step, window):
    path = write(tmp_path / "x.tif", **LAYOUTS[layout])
    assert (read(path, step, window) == PIXELS).all()


def test_grey_and_further_channels_become_colours(tmp_path):
    grey = write(tmp_path / "g.tif", PIXELS[..., 0], photometric="minisblack", compression="zlib", rowsperstrip=9)
    assert (read(grey, 8, 8) == PIXELS[..., :1]).all()
    four = np.concatenate([PIXELS, PIXELS[..., :1]], 2)
    path = write(tmp_path / "a.tif", four, compression="zlib", rowsperstrip=9, extrasamples=["unassalpha"])
    assert (read(path, 8, 8) == PIXELS).all()
    with open_tiff(path) as rows:
        assert rows.alpha
    with open_tiff(grey) as rows:
        assert not rows.alpha


def test_no_more_than_the_bands_of_a_window_is_kept(tmp_path):
    path = write(tmp_path / "x.tif", compression="zlib", rowsperstrip=10)
    with open_tiff(path) as rows:
        for start in range(0, 60, 5):
            rows.read(start, start + 10)
            assert len(rows.bands) <= 2


def test_a_plain_file_is_mapped_and_not_read(tmp_path):
    """A sparse file of 3.6 GB, of which a band is looked at."""
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, shape=(40_000, 30_000, 3), dtype=np.uint8, photometric="rgb")
    with open_tiff(path) as rows:
        assert rows.size == (40_000, 30_000)
        assert rows.read(39_990, 40_000).max() == 0
        assert rows.bands == {}


@pytest.mark.parametrize(
    ("pixels", "layout", "said"),
    [
        (PIXELS.astype(np.uint16), {}, "has channels of uint16, expected 8 bits"),
        (PIXELS.astype(np.float32), {}, "has channels of float32, expected 8 bits"),
        (np.moveaxis(PIXELS, 2, 0), {"planarconfig": "separate"}, "planes 2, orientation 1: save it upright"),
        (PIXELS, {"extratags": [(274, 3, 1, 6, False)]}, "planes 1, orientation 6: save it upright"),
        (PIXELS[..., 0], {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}, "of kind PALETTE"),
    ],
)
def test_what_would_be_seen_wrongly_is_refused_in_one_line(tmp_path, pixels, layout, said):
    with pytest.raises(BenchError, match=said) as caught, open_tiff(write(tmp_path / "x.tif", pixels, **layout)):
        pass
    assert len(str(caught.value).splitlines()) == 1


def test_one_large_strip_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "x.tif", compression="zlib", rowsperstrip=70)
    monkeypatch.setattr(tiff_rows, "MOST_BAND", 70 * 53 - 1)
    with pytest.raises(BenchError, match="is compressed in one piece: save it in strips or tiles"), open_tiff(path):
        pass


def test_a_damaged_strip_is_told(tmp_path):
    path = write(tmp_path / "x.tif", compression="zlib", rowsperstrip=10)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as opened:
        at = opened.pages.first.dataoffsets[3]
    data[at : at + 40] = bytes(40)
    path.write_bytes(data)
    with open_tiff(path) as rows:
        rows.read(0, 10)
        with pytest.raises(BenchError, match=r"x\.tif: damaged .*the TIFF is damaged, or compressed in a way"):
            rows.read(25, 35)


def test_a_file_that_is_cut_off_is_told(tmp_path):
    path = write(tmp_path / "x.tif", compression="zlib", rowsperstrip=10)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BenchError, match=r"x\.tif: "), open_tiff(path) as rows:
        rows.read(0, 70)


def test_what_is_not_installed_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(UsageError, match=r"pip install 'rc2l-bench\[tiff\]'"), open_tiff(tmp_path / "x.tif"):
        pass
