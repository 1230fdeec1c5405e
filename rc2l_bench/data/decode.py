"""Image and mask bytes to arrays and back. kornia_rs where it can, Pillow elsewhere, equal to the bit."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from rc2l_bench.data.image_headers import (
    GREY,
    JPEG_SIGNATURE,
    PALETTE,
    PNG_SIGNATURE,
    RGB,
    RGBA,
    ImageHeader,
    pixel_chunks,
    read_header,
)
from rc2l_bench.errors import BenchError, one_line

try:
    import kornia_rs.io as fast
except ImportError:  # no wheel for this platform
    fast = None  # type: ignore[assignment]

Pixels = NDArray[np.uint8]

_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_BLOCK = 0xFFFF
"""Largest stored block of deflate, bytes."""


def decode_image(data: bytes, name: str = "image") -> Pixels:
    """Decode a picture as viewers show it: grey and palettes become RGB, alpha is dropped, Exif orientation is applied.

    Args:
        data: the bytes of a JPEG or of a PNG with at most 8 bits per channel.
        name: what to call the picture in an error.

    Returns:
        (H, W, 3) uint8, C-contiguous.

    Raises:
        BenchError: the bytes are damaged, cut off, 16-bit, neither JPEG nor PNG, or promise more than can be true.
    """
    header = read_header(data, name)
    pixels = _decode_jpeg(data, name, header) if header.kind == "jpg" else _decode_png(data, name, header)
    return turn(pixels, header.orientation)


def decode_mask(data: bytes, name: str = "mask") -> Pixels:
    """Decode a mask to the numbers that are stored in it; a palette's colours are not looked at.

    Args:
        data: the bytes of a PNG with one channel (grey or palette) of at most 8 bits.
        name: what to call the mask in an error.

    Returns:
        (H, W) uint8, C-contiguous: class indices and 255.

    Raises:
        BenchError: the bytes are damaged, cut off, or not such a PNG.
    """
    if data.startswith(JPEG_SIGNATURE):
        raise BenchError(f"{name}: is a JPEG, which blurs class indices: expected a PNG with one channel")
    header = _shallow(read_header(data, name), name)
    if header.colour not in (GREY, PALETTE):
        raise BenchError(f"{name}: has colours or alpha: expected a grey or palette PNG whose values are class indices")
    if header.orientation != 1:
        raise BenchError(
            f"{name}: a mask with Exif orientation {header.orientation}: save it as it is to lie on its image"
        )
    size = header.height, header.width
    found = _fast("decode_image_png_u8", data, size, "mono") if header.depth == 8 else None
    if found is not None:
        return found[..., 0]
    pixels = _pillow(data, name, header, None)
    # Pillow stretches 2-bit and 4-bit grey to 0..255.
    return pixels // np.uint8({2: 85, 4: 17}.get(header.depth, 1)) if header.colour == GREY else pixels


def size_of(data: bytes, name: str = "image") -> tuple[int, int]:
    """Read height and width of what `decode_image` gives, in pixels, from the header alone.

    Raises:
        BenchError: there is no readable JPEG or PNG header.
    """
    return read_header(data, name).size


def turn(pixels: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels (H, W, ...) the way that an Exif orientation 1..8 asks for (CIPA DC-008, tag 0x0112)."""
    if orientation == 1:
        return pixels
    upright = np.swapaxes(pixels, 0, 1) if orientation >= 5 else pixels
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(upright[::rows, ::columns])


def encode_mask(mask: Pixels, *, stored: bool = False) -> bytes:
    """Encode a mask as an 8-bit grey PNG.

    Args:
        mask: (H, W) uint8.
        stored: do not compress. The bytes are then the same on every machine, whatever zlib it has.
    """
    assert mask.ndim == 2, mask.shape
    assert mask.dtype == np.uint8, mask.dtype
    return _encode_stored(mask[..., None], GREY) if stored else _encode_pillow(mask)


def encode_image(image: Pixels, *, stored: bool = False) -> bytes:
    """Encode a picture as an 8-bit RGB PNG.

    Args:
        image: (H, W, 3) uint8.
        stored: do not compress. The bytes are then the same on every machine, whatever zlib it has.
    """
    assert image.ndim == 3, image.shape
    assert image.shape[2] == 3, image.shape
    assert image.dtype == np.uint8, image.dtype
    return _encode_stored(image, RGB) if stored else _encode_pillow(image)


def _decode_jpeg(data: bytes, name: str, header: ImageHeader) -> Pixels:
    found = _fast("decode_image_jpegturbo", data, "rgb")
    return _pillow(data, name, header, "RGB") if found is None else found


def _decode_png(data: bytes, name: str, header: ImageHeader) -> Pixels:
    mode = {GREY: "mono", RGB: "rgb", RGBA: "rgba"}.get(_shallow(header, name).colour)
    size = header.height, header.width
    found = _fast("decode_image_png_u8", data, size, mode) if header.depth == 8 and mode else None
    if found is None:
        return _pillow(data, name, header, "RGB")
    if header.colour == GREY:
        return np.repeat(found, 3, axis=2)
    return found if header.colour == RGB else np.ascontiguousarray(found[..., :3])


def _shallow(header: ImageHeader, name: str) -> ImageHeader:
    if header.depth > 8:
        raise BenchError(f"{name}: has {header.depth} bits per channel, expected at most 8: convert it to an 8-bit PNG")
    return header


def _fast(function: str, *args: Any) -> Pixels | None:  # noqa: ANN401 - kornia_rs has no types
    """What kornia_rs makes of the bytes; None where it cannot, and Pillow has to say."""
    try:
        found: Pixels = getattr(fast, function)(*args)
    except Exception:  # kornia_rs raises bare Exception
        return None
    return found


def _pillow(data: bytes, name: str, header: ImageHeader, mode: str | None) -> Pixels:
    """Pillow's pixels, converted to a mode unless it is None.

    The file classes are called directly: `Image.open` has limits of its own, lower than those of `image_headers`.
    """
    try:
        file = io.BytesIO(pixel_chunks(data) if header.kind == "png" else data)
        with PngImageFile(file) if header.kind == "png" else JpegImageFile(file) as image:
            return np.array(image.convert(mode) if mode else image, dtype=np.uint8)
    except Exception as error:  # Pillow lets errors of many types through on damaged bytes
        reason = one_line(error)[:120]
        raise BenchError(f"{name}: cannot be decoded, the file is damaged ({reason})") from None


def _encode_pillow(pixels: Pixels) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def _encode_stored(pixels: Pixels, colour: int) -> bytes:
    """A PNG (W3C PNG specification) around a zlib stream of stored blocks (RFC 1950, RFC 1951 section 3.2.4)."""
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # every row begins with filter type 0
    rows[:, 1:] = pixels.reshape(height, -1)
    raw = rows.tobytes()
    starts = range(0, len(raw), _BLOCK)
    blocks = [_stored_block(raw[start : start + _BLOCK], last=start + _BLOCK >= len(raw)) for start in starts]
    stream = b"\x78\x01" + b"".join(blocks) + struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return PNG_SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", stream) + _PNG_END


def _stored_block(raw: bytes, *, last: bool) -> bytes:
    return struct.pack("<BHH", last, len(raw), len(raw) ^ _BLOCK) + raw


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
