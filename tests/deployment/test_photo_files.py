from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from rc2l_bench.deployment import photo_files
from rc2l_bench.deployment.photo_files import ALPHA, is_large_tiff, read_photo
from rc2l_bench.errors import BenchError

PIXELS = np.random.default_rng(0).integers(0, 256, (13, 9, 3), np.uint8)
ORIENTATION = 0x0112


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp", "gif"])
def test_every_format_gives_its_pixels(tmp_path, suffix):
    picture = Image.fromarray(PIXELS)
    if suffix == "gif":  # which has 256 colours
        picture = picture.quantize(200)
    picture.save(tmp_path / f"x.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    found = read_photo(tmp_path / f"x.{suffix}")
    assert (found.pixels == np.array(picture.convert("RGB"))).all()
    assert found.pixels.flags.c_contiguous
    assert found.remark == ""


def test_a_jpeg_is_decoded_as_in_training(tmp_path):
    from rc2l_bench.data.decode import decode_image

    Image.fromarray(PIXELS).save(tmp_path / "x.jpg")
    assert (read_photo(tmp_path / "x.jpg").pixels == decode_image((tmp_path / "x.jpg").read_bytes())).all()


def test_the_content_counts_and_not_the_name(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "x.jpg", "PNG")
    assert (read_photo(tmp_path / "x.jpg").pixels == PIXELS).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_a_turned_photo_is_seen_upright(tmp_path, suffix):
    """Orientation 6: the camera was turned; rows of the file are columns of the picture, from the right."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    half = np.zeros((16, 24, 3), np.uint8)
    half[:8] = 255  # the upper half as stored is the right half as seen
    Image.fromarray(half).save(tmp_path / f"x.{suffix}", exif=exif)
    found = read_photo(tmp_path / f"x.{suffix}").pixels
    assert found.shape == (24, 16, 3)
    assert found[:, 8:].min() > 240
    assert found[:, :8].max() < 15


@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", "png"), ("LA", "png"), ("RGBA", "tif"), ("RGBA", "webp")])
def test_alpha_is_dropped_and_told(tmp_path, mode, suffix):
    picture = Image.fromarray(PIXELS).convert(mode)
    picture.putalpha(7)
    picture.save(tmp_path / f"x.{suffix}", **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    found = read_photo(tmp_path / f"x.{suffix}")
    assert found.remark == ALPHA
    assert (found.pixels == np.array(Image.fromarray(PIXELS).convert(mode).convert("RGB"))).all()


def test_grey_becomes_three_equal_channels(tmp_path):
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "x.tif")
    assert (read_photo(tmp_path / "x.tif").pixels == PIXELS[..., :1]).all()


def deep(path, kind: str) -> None:
    if kind == "png":
        Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(path)
    else:
        dtype = {"rgb16": np.uint16, "grey16": np.uint16, "float": np.float32}[kind]
        tifffile.imwrite(path, (PIXELS if kind == "rgb16" else PIXELS[..., 0]).astype(dtype))


@pytest.mark.parametrize(
    ("kind", "said"), [("png", "16 bits"), ("rgb16", "16 bits"), ("grey16", "16 bits"), ("float", "32 bits")]
)
def test_more_than_eight_bits_are_refused_in_one_line(tmp_path, kind, said):
    path = tmp_path / ("x.png" if kind == "png" else "x.tif")
    deep(path, kind)
    with pytest.raises(BenchError, match=f"x.*: has {said} per channel, expected .*8.*convert it") as caught:
        read_photo(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff", b"II*\0" + b"\0" * 40, b"RIFF\0\0\0\0WEBPVP8 "])
def test_what_is_no_picture_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(BenchError, match=r"x\.jpg: ") as caught:
        read_photo(tmp_path / "x.jpg")
    assert len(str(caught.value).splitlines()) == 1


def test_a_program_for_a_printer_is_not_run(tmp_path):
    """Pillow would hand PostScript to Ghostscript."""
    (tmp_path / "x.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(BenchError, match="no picture of a kind that is known here"):
        read_photo(tmp_path / "x.eps")


@pytest.mark.parametrize("suffix", ["bmp", "tif"])
def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded(tmp_path, monkeypatch, suffix):
    Image.fromarray(PIXELS).save(tmp_path / f"x.{suffix}")
    monkeypatch.setattr(photo_files, "MOST_WHOLE", 13 * 9 - 1)
    with pytest.raises(BenchError, match="larger than 116 pixels: save it as a TIFF, which is read in bands"):
        read_photo(tmp_path / f"x.{suffix}")


def test_large_tiffs_are_told_from_small_ones_and_from_others(tmp_path, monkeypatch):
    for suffix in ("tif", "png"):
        Image.fromarray(PIXELS).save(tmp_path / f"x.{suffix}")
    assert not is_large_tiff(tmp_path / "x.tif")
    monkeypatch.setattr(photo_files, "MOST_WHOLE", 13 * 9 - 1)
    assert is_large_tiff(tmp_path / "x.tif")
    assert not is_large_tiff(tmp_path / "x.png")


def test_a_tiff_beyond_pillows_own_limit_is_large(tmp_path):
    """A sparse file: 400 million pixels that are nowhere."""
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, shape=(20_000, 20_000, 3), dtype=np.uint8, bigtiff=False, photometric="rgb")
    assert is_large_tiff(path)
