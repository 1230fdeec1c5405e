"""Image and mask bytes to arrays and back. kornia_rs where it can, Pillow elsewhere, equal to the bit."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rc2l_bench.errors import BenchError

try:
    import kornia_rs.io as fast
except ImportError:  # no wheel for this platform
    fast = None  # type: ignore[assignment]

Pixels = NDArray[np.uint8]

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_JPEG = b"\xff\xd8\xff"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Second byte of the markers that begin a frame."""
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_BLOCK = 0xFFFF
"""Largest stored block of deflate, bytes."""
_MOST_PIXELS = 1 << 28
"""A header that promises more is not believed, because its memory would be allocated before a pixel is read."""


def decode_image(data: bytes, name: str = "image") -> Pixels:
    """Decodes a picture; grey and palettes become RGB, alpha is dropped, EXIF rotation is not applied.

    Args:
        data: the bytes of a JPEG or of a PNG with at most 8 bits per channel.
        name: what to call the picture in an error.

    Returns:
        (H, W, 3) uint8, C-contiguous.

    Raises:
        BenchError: the bytes are damaged, cut off, 16-bit, or neither JPEG nor PNG.
    """
    if data.startswith(_JPEG):
        found = _fast("decode_image_jpegturbo", data, "rgb")
        return _pillow(data, name, "RGB") if found is None else found
    height, width, depth, colour = _png_header(data, name)
    mode = {_GREY: "mono", _RGB: "rgb", _RGBA: "rgba"}.get(colour)
    found = _fast("decode_image_png_u8", data, (height, width), mode) if depth == 8 and mode else None
    if found is None:
        return _pillow(data, name, "RGB")
    if colour == _GREY:
        return np.repeat(found, 3, axis=2)
    return found if colour == _RGB else np.ascontiguousarray(found[..., :3])


def decode_mask(data: bytes, name: str = "mask") -> Pixels:
    """Decodes a mask to the numbers that are stored in it; a palette's colours are not looked at.

    Args:
        data: the bytes of a PNG with one channel (grey or palette) of at most 8 bits.
        name: what to call the mask in an error.

    Returns:
        (H, W) uint8, C-contiguous: class indices and 255.

    Raises:
        BenchError: the bytes are damaged, cut off, or not such a PNG.
    """
    if data.startswith(_JPEG):
        raise BenchError(f"{name}: is a JPEG, which blurs class indices: expected a PNG with one channel")
    height, width, depth, colour = _png_header(data, name)
    if colour not in (_GREY, _PALETTE):
        raise BenchError(f"{name}: has colours or alpha: expected a grey or palette PNG whose values are class indices")
    found = _fast("decode_image_png_u8", data, (height, width), "mono") if depth == 8 else None
    if found is not None:
        return found[..., 0]
    pixels = _pillow(data, name, None)
    # Pillow stretches 2-bit and 4-bit grey to 0..255.
    return pixels // np.uint8({2: 85, 4: 17}.get(depth, 1)) if colour == _GREY else pixels


def size_of(data: bytes, name: str = "image") -> tuple[int, int]:
    """Height and width in pixels, from the header alone.

    Raises:
        BenchError: there is no readable JPEG or PNG header.
    """
    if not data.startswith(_JPEG):
        return _png_header(data, name)[:2]
    if found := _jpeg_size(data):
        return found
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return image.height, image.width
    except Exception as error:
        raise _damaged(name, error) from None


def encode_mask(mask: Pixels, *, stored: bool = False) -> bytes:
    """Encodes a mask as an 8-bit grey PNG.

    Args:
        mask: (H, W) uint8.
        stored: do not compress. The bytes are then the same on every machine, whatever zlib it has.
    """
    assert mask.ndim == 2, mask.shape
    assert mask.dtype == np.uint8, mask.dtype
    return _encode_stored(mask[..., None], _GREY) if stored else _encode_pillow(mask)


def encode_image(image: Pixels, *, stored: bool = False) -> bytes:
    """Encodes a picture as an 8-bit RGB PNG.

    Args:
        image: (H, W, 3) uint8.
        stored: do not compress. The bytes are then the same on every machine, whatever zlib it has.
    """
    assert image.ndim == 3, image.shape
    assert image.shape[2] == 3, image.shape
    assert image.dtype == np.uint8, image.dtype
    return _encode_stored(image, _RGB) if stored else _encode_pillow(image)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width in the frame header (ITU-T T.81, B.2.2), an eighth of Pillow's time; None = it is not found."""
    offset = 2
    while offset + 9 <= len(data) and data[offset] == 0xFF:
        if data[offset + 1] in _FRAMES:
            height, width = struct.unpack(">HH", data[offset + 5 : offset + 9])
            return (height, width) if height and width else None
        offset += 2 + int.from_bytes(data[offset + 2 : offset + 4])
    return None


def _fast(function: str, *args: Any) -> Pixels | None:  # noqa: ANN401 - kornia_rs has no types
    """What kornia_rs makes of the bytes; None where it cannot, and Pillow has to say."""
    try:
        found: Pixels = getattr(fast, function)(*args)
    except Exception:  # kornia_rs raises bare Exception
        return None
    return found


def _pillow(data: bytes, name: str, mode: str | None) -> Pixels:
    """Pillow's pixels, converted to a mode unless it is None."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            return np.array(image.convert(mode) if mode else image, dtype=np.uint8)
    except Exception as error:  # Pillow lets errors of many types through on damaged bytes
        raise _damaged(name, error) from None


def _damaged(name: str, error: Exception) -> BenchError:
    return BenchError(f"{name}: cannot be decoded, the file is damaged ({' '.join(str(error).split())[:120]})")


def _png_header(data: bytes, name: str) -> tuple[int, int, int, int]:
    """Height, width, bits per channel and colour type, after checks that both decoders leave out or do differently."""
    if not data.startswith(_PNG) or data[12:16] != b"IHDR" or len(data) < 26:
        raise BenchError(f"{name}: neither a PNG nor a JPEG ({len(data)} bytes)")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if not data.endswith(_PNG_END) and _PNG_END not in data:
        raise BenchError(f"{name}: the PNG is cut off after {len(data)} bytes: fetch or copy it again")
    if not 0 < width * height <= _MOST_PIXELS:
        raise BenchError(f"{name}: its header says {height}×{width} pixels: the file is damaged or too large")
    if depth > 8:
        raise BenchError(f"{name}: has {depth} bits per channel, expected at most 8: convert it to an 8-bit PNG")
    return height, width, depth, colour


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
    return _PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", stream) + _PNG_END


def _stored_block(raw: bytes, *, last: bool) -> bytes:
    return struct.pack("<BHH", last, len(raw), len(raw) ^ _BLOCK) + raw


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
