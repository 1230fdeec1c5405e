from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from rc2l_bench.data import decode
from rc2l_bench.data.decode import decode_image, decode_mask, encode_image, encode_mask, size_of
from rc2l_bench.errors import BenchError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (37, 53, 3), dtype=np.uint8)
INDICES = np.where(RNG.random((37, 53)) < 0.1, 255, RNG.integers(0, 12, (37, 53))).astype(np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def smooth() -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize((173, 131), Image.Resampling.BICUBIC)


def palette(indices: np.ndarray, **options) -> bytes:
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette(bytes(RNG.integers(0, 256, 768, dtype=np.uint8)))
    return saved(image, **options)


def grey_png(indices: np.ndarray, depth: int) -> bytes:
    """A grey PNG with 1, 2 or 4 bits per pixel, which Pillow cannot write."""
    bits = np.unpackbits(indices[..., None], axis=2)[..., 8 - depth :].reshape(len(indices), -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(bits, axis=1))
    header = struct.pack(">IIBBBBB", indices.shape[1], indices.shape[0], depth, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


IMAGES: dict[str, Callable[[], bytes]] = {
    "jpeg 4:2:0": lambda: saved(smooth(), "JPEG"),
    "jpeg 4:4:4": lambda: saved(smooth(), "JPEG", subsampling=0, quality=97),
    "jpeg progressive": lambda: saved(smooth(), "JPEG", progressive=True),
    "jpeg grey": lambda: saved(smooth().convert("L"), "JPEG"),
    "jpeg cmyk": lambda: saved(smooth().convert("CMYK"), "JPEG"),
    "png rgb": lambda: saved(Image.fromarray(RGB)),
    "png rgba": lambda: saved(Image.fromarray(np.dstack([RGB, INDICES]))),
    "png grey": lambda: saved(Image.fromarray(INDICES)),
    "png grey alpha": lambda: saved(Image.fromarray(INDICES).convert("LA")),
    "png palette": lambda: palette(INDICES),
    "png palette transparent": lambda: palette(INDICES, transparency=3),
    "png 1 bit": lambda: saved(Image.fromarray(INDICES > 5)),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_kornia_and_pillow_give_the_same_picture(kind, monkeypatch):
    data = IMAGES[kind]()
    found = decode_image(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (found.dtype, found.flags.c_contiguous) == (np.uint8, True)
    np.testing.assert_array_equal(found, expected)
    assert size_of(data) == found.shape[:2]
    monkeypatch.setattr(decode, "fast", None)
    np.testing.assert_array_equal(decode_image(data), found)


def test_the_size_is_that_of_the_picture_not_of_the_thumbnail_in_its_exif():
    small = saved(smooth().resize((16, 12)), "JPEG")
    big = saved(smooth(), "JPEG")
    segment = b"Exif\0\0" + small
    data = big[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + big[2:]
    assert size_of(data) == (131, 173)


@pytest.mark.parametrize("length", [3, 20, 100])
def test_a_jpeg_without_its_frame_header_has_no_size(length):
    with pytest.raises(BenchError):
        size_of(saved(smooth(), "JPEG")[:length])


def test_kornia_is_what_decodes_the_common_kinds(monkeypatch):
    def refuse(*_):
        raise AssertionError("Pillow was asked")

    monkeypatch.setattr(decode, "_pillow", refuse)
    for kind in ("jpeg 4:2:0", "jpeg grey", "png rgb", "png rgba", "png grey"):
        assert decode_image(IMAGES[kind]()).ndim == 3
    assert decode_mask(palette(INDICES)).ndim == 2
    decode_mask(encode_mask(INDICES))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("with_fast", [True, False])
def test_a_picture_is_turned_as_its_exif_orientation_says(kind, orientation, with_fast, monkeypatch):
    if not with_fast:
        monkeypatch.setattr(decode, "fast", None)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(smooth(), kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    found = decode_image(data)
    np.testing.assert_array_equal(found, expected)
    assert found.flags.c_contiguous
    assert size_of(data) == expected.shape[:2]


def test_a_mask_with_an_exif_orientation_is_refused():
    exif = Image.Exif()
    exif[0x0112] = 6
    with pytest.raises(BenchError, match=r"^m\.png: a mask with Exif orientation 6"):
        decode_mask(saved(Image.fromarray(INDICES), exif=exif), "m.png")


@pytest.mark.parametrize("kind", ["jpeg cmyk", "png palette", "png grey alpha"])
def test_the_limits_of_pillow_are_not_asked(kind, monkeypatch):
    """They are lower than ours: a warning from 89, an error from 179 million pixels."""
    data = IMAGES[kind]()
    expected = decode_image(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    np.testing.assert_array_equal(decode_image(data), expected)


def test_a_long_text_in_a_png_is_passed_over(monkeypatch):
    """Pillow refuses texts of more than a mebibyte, as annotation tools and generators of images write them."""
    monkeypatch.setattr(decode, "fast", None)
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "x" * (2 << 20), zip=True)
    data = saved(Image.fromarray(RGB), pnginfo=text)
    np.testing.assert_array_equal(decode_image(data), RGB)


MASKS: dict[str, tuple[Callable[[np.ndarray], bytes], int]] = {
    "grey": (lambda m: saved(Image.fromarray(m)), 8),
    "palette": (palette, 8),
    "palette with transparency": (lambda m: palette(m, transparency=0), 8),
    "palette 4 bits": (lambda m: palette(m, bits=4), 4),
    "palette 2 bits": (lambda m: palette(m, bits=2), 2),
    "palette 1 bit": (lambda m: palette(m, bits=1), 1),
    "1 bit": (lambda m: saved(Image.fromarray(m.astype(bool))), 1),
    "grey 2 bits": (lambda m: grey_png(m, 2), 2),
    "grey 4 bits": (lambda m: grey_png(m, 4), 4),
}


@pytest.mark.parametrize("kind", MASKS)
def test_the_stored_indices_of_a_mask_come_back(kind, monkeypatch):
    encode, bits = MASKS[kind]
    mask = INDICES if bits == 8 else RNG.integers(0, 1 << bits, (37, 53), dtype=np.uint8)
    data = encode(mask)
    np.testing.assert_array_equal(decode_mask(data), mask)
    assert decode_mask(data).dtype == np.uint8
    monkeypatch.setattr(decode, "fast", None)
    np.testing.assert_array_equal(decode_mask(data), mask)


def test_what_cannot_be_a_mask_is_refused_and_named():
    with pytest.raises(BenchError, match=r"^a/b\.png: has colours"):
        decode_mask(IMAGES["png rgb"](), "a/b.png")
    with pytest.raises(BenchError, match="has colours or alpha"):
        decode_mask(IMAGES["png grey alpha"]())
    with pytest.raises(BenchError, match="is a JPEG"):
        decode_mask(IMAGES["jpeg grey"]())
    with pytest.raises(BenchError, match="16 bits per channel, expected at most 8"):
        decode_mask(saved(Image.fromarray(INDICES.astype(np.uint16))))


def test_sixteen_bits_and_other_formats_are_refused():
    with pytest.raises(BenchError, match="16 bits"):
        decode_image(saved(Image.fromarray(INDICES.astype(np.uint16))))
    for data in (
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"hello",
        saved(Image.fromarray(RGB), "BMP"),
        saved(Image.fromarray(RGB), "GIF"),
    ):
        with pytest.raises(BenchError, match="neither a PNG nor a JPEG"):
            decode_image(data)


def test_a_header_that_lies_about_the_size_is_refused_before_memory_is_taken():
    data = bytearray(IMAGES["png rgb"]())
    data[16:24] = struct.pack(">II", 0xFFFFFFF, 0xFFFFFFF)
    with pytest.raises(BenchError, match="damaged or too large"):
        decode_image(bytes(data))


@pytest.mark.parametrize("kind", ["jpeg 4:2:0", "jpeg progressive", "png rgb", "png palette"])
@pytest.mark.parametrize("with_fast", [True, False])
def test_bytes_that_were_cut_off_are_refused_wherever_the_cut_is(kind, with_fast, monkeypatch):
    if not with_fast:
        monkeypatch.setattr(decode, "fast", None)
    data = IMAGES[kind]()
    for cut in [*range(0, len(data), max(1, len(data) // 40)), len(data) - 12, len(data) - 4, len(data) - 1]:
        with pytest.raises(BenchError):
            decode_image(data[:cut])


def test_damaged_bytes_end_in_pixels_or_in_one_clear_error():
    for kind in ("jpeg 4:2:0", "png rgb", "png palette"):
        data = IMAGES[kind]()
        for _ in range(150):
            damaged = bytearray(data)
            for place in RNG.integers(0, min(len(data), 400), 3):
                damaged[place] = RNG.integers(0, 256)
            with contextlib.suppress(BenchError):
                assert decode_image(bytes(damaged)).shape[2] == 3


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (37, 53), (200, 500)])
def test_what_is_encoded_comes_back(size, stored):
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(encode_image(image, stored=stored)), image)
    np.testing.assert_array_equal(decode_mask(encode_mask(image[..., 0], stored=stored)), image[..., 0])


def test_stored_bytes_are_valid_png_to_pillow_and_never_change():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    data = encode_image(image, stored=True)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), image)
    assert data.hex() == GOLDEN


# Signature, IHDR, one stored block of two filtered rows, IEND.
GOLDEN = (
    "89504e470d0a1a0a0000000d49484452000000030000000208020000001216f14d0000001f494441547801011400ebff0000"
    "010203040506070800090a0b0c0d0e0f10110401009a2186f64c0000000049454e44ae426082"
)


def test_importing_it_is_light():
    code = "import sys, rc2l_bench.data.decode; sys.exit(bool({'torch', 'webdataset', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
