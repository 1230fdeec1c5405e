"""Headers of JPEG and PNG files against Pillow's, Exif orientations, and promises that no file can keep."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from rc2l_bench.data.image_headers import (
    GREY,
    MOST_PIXELS,
    PALETTE,
    RGB,
    pixel_chunks,
    read_file_header,
    read_header,
    without_orientation,
)
from rc2l_bench.errors import BenchError

PIXELS = np.random.default_rng(0).integers(0, 256, (13, 21, 3), dtype=np.uint8)


def saved(kind: str = "JPEG", image: Image.Image | None = None, **options) -> bytes:
    target = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(target, kind, **options)
    return target.getvalue()


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(kind, exif=exif)


def with_exif(tiff: bytes) -> bytes:
    data = saved()
    segment = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def directory(order: str, orientation: int, first: int = 8) -> bytes:
    """A TIFF block with two entries, the second one the orientation."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", first)
    entry = struct.pack(f"{order}HHIHH", 0x010F, 3, 1, 5, 0) + struct.pack(
        f"{order}HHIHH", 0x0112, 3, 1, orientation, 0
    )
    return head + bytes(first - 8) + struct.pack(f"{order}H", 2) + entry + bytes(4)


def png_of(height: int, width: int, idat: bytes) -> bytes:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", idat), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def jpeg_of(height: int, width: int) -> bytes:
    """A small JPEG whose frame header says another size."""
    data = bytearray(saved())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"icc_profile": bytes(200_000)}])
def test_a_jpeg_says_its_size(options):
    header = read_header(saved(**options), "x")
    assert (header.kind, header.height, header.width, header.depth, header.colour) == ("jpg", 13, 21, 8, RGB)


@pytest.mark.parametrize(
    ("mode", "colour", "depth"), [("RGB", RGB, 8), ("L", GREY, 8), ("P", PALETTE, 8), ("1", GREY, 1)]
)
def test_a_png_says_its_size_depth_and_colours(mode, colour, depth):
    header = read_header(saved("PNG", Image.fromarray(PIXELS).convert(mode)), "x")
    assert (header.kind, header.height, header.width, header.depth, header.colour) == ("png", 13, 21, depth, colour)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_is_found_and_the_size_is_that_of_the_turned_picture(kind, orientation):
    header = read_header(turned(orientation, kind), "x")
    assert header.orientation == orientation
    assert header.size == ((21, 13) if orientation >= 5 else (13, 21))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("first", [8, 40])
def test_both_byte_orders_are_read_wherever_the_directory_lies(order, first):
    assert read_header(with_exif(directory(order, 6, first)), "x").orientation == 6


@pytest.mark.parametrize(
    "tiff",
    [b"", b"II", b"II*\0", b"XX*\0" + bytes(60), directory("<", 0), directory("<", 9), directory("<", 6)[:20],
     b"II*\0" + struct.pack("<I", 2**32 - 1), b"II*\0" + struct.pack("<IH", 8, 65535)],
)  # fmt: skip
def test_a_damaged_exif_block_means_as_stored(tiff):
    assert read_header(with_exif(tiff), "x").orientation == 1


def test_the_header_of_a_file_is_that_of_its_bytes(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(turned(6))
    assert read_file_header(path) == read_header(turned(6), "x")


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(BenchError, match=r"a\.jpg: neither a PNG nor a JPEG \(0 bytes\)"):
        read_file_header(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_without_orientation_the_stored_pixels_stay_and_nothing_turns_them(kind, orientation):
    data = turned(orientation, kind)
    plain = without_orientation(data, "x")
    assert read_header(plain, "x").orientation == 1
    assert Image.open(io.BytesIO(plain)).getexif().get(0x0112, 1) == 1
    np.testing.assert_array_equal(Image.open(io.BytesIO(plain)), Image.open(io.BytesIO(data)))


def test_both_byte_orders_lose_their_orientation():
    for order in "<>":
        assert read_header(without_orientation(with_exif(directory(order, 6)), "x"), "x").orientation == 1


def test_only_what_shows_is_kept_of_a_png():
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 100_000)
    data = saved("PNG", pnginfo=text)
    small = pixel_chunks(data)
    assert len(small) < len(data) - 100_000
    np.testing.assert_array_equal(Image.open(io.BytesIO(small)), PIXELS)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_is_neither_is_refused(data):
    with pytest.raises(BenchError, match=r"^x: neither a PNG nor a JPEG"):
        read_header(data, "x")


def test_a_png_that_is_cut_off_anywhere_is_refused():
    data = saved("PNG")
    for end in range(len(data)):
        with pytest.raises(BenchError):
            read_header(data[:end], "x")


def test_a_jpeg_without_its_frame_is_refused():
    data = saved()
    for end in range(data.index(b"\xff\xc0") + 9):
        with pytest.raises(BenchError):
            read_header(data[:end], "x")


@pytest.mark.parametrize(
    "data", [png_of(60_000, 60_000, bytes(9)), jpeg_of(60_000, 60_000), png_of(0, 5, b""), jpeg_of(0, 9)]
)
def test_more_pixels_than_are_read_at_all_are_refused(data):
    with pytest.raises(BenchError, match=rf"pixels, at most {MOST_PIXELS:,} are read"):
        read_header(data, "x")


@pytest.mark.parametrize("data", [jpeg_of(16_000, 16_000), png_of(16_000, 16_000, bytes(1000))])
def test_more_pixels_than_the_bytes_can_hold_are_refused(data):
    with pytest.raises(BenchError, match="bytes are too few: the file is cut off or damaged"):
        read_header(data, "x")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_emptiest_pictures_are_believed(kind):
    """One colour, the best compression: as few bytes for their pixels as an encoder can make."""
    options = {"quality": 1, "optimize": True, "progressive": True} if kind == "JPEG" else {"compress_level": 9}
    data = saved(kind, Image.new("RGB", (4000, 3000)), **options)
    assert read_header(data, "x").size == (3000, 4000)
