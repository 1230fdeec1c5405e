"""What JPEG and PNG files say of themselves, read without decoding, and the limits of what is believed.

References: ITU-T T.81 (JPEG), W3C PNG specification, CIPA DC-008 (Exif).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rc2l_bench.errors import BenchError

MOST_PIXELS = 1 << 28
"""Largest picture that is decoded: 16,384 × 16,384, 805 MB as RGB. A header that promises more is not believed, because
its memory would be allocated before a pixel is read."""
MOST_DEFLATED = 1032
"""Bytes that one byte of deflate can stand for at most (RFC 1951: 258 bytes in 2 bits)."""
LEAST_BLOCK_BITS = 1
"""Bits that a Huffman-coded JPEG spends on each block of 8 × 8 pixels at least: one code of its DC coefficient."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
"""Colour types of PNG."""
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""What a PNG needs to show its pixels. Text, colour profiles and the like change no pixel here."""
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Second byte of the JPEG markers that begin a frame."""
_ARITHMETIC = {*range(0xC9, 0xD0)}
_BARE = {0x01, *range(0xD0, 0xD9)}
"""Second byte of the JPEG markers that no length follows."""
_SCAN, _APP1, _EXIF = 0xDA, 0xE1, b"Exif\0\0"
_ORIENTATION, _SHORT = 0x0112, 3

Bytes = bytes | mmap.mmap


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """What a file says of its picture.

    Attributes:
        kind: of file.
        height: of the stored pixels, before any orientation is applied.
        width: of the stored pixels.
        depth: bits per channel.
        colour: colour type of a PNG, one of the constants above; for a JPEG `GREY` or `RGB`.
        orientation: Exif orientation 1..8; 1 = as stored, also where the file says nothing or nonsense.
        orientation_at: offset of the two bytes that say so in a JPEG; 0 = there are none.
    """

    kind: Literal["png", "jpg"]
    height: int
    width: int
    depth: int
    colour: int
    orientation: int = 1
    orientation_at: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture as it is to be looked at, orientation applied."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def read_header(data: Bytes, name: str) -> ImageHeader:
    """Read the header of a picture and check that its promises can be kept.

    Args:
        data: the whole file.
        name: what to call it in an error.

    Raises:
        BenchError: the bytes are neither a PNG nor a JPEG, are cut off, or promise more pixels than `MOST_PIXELS` or
            than so few bytes can hold.
    """
    if data[: len(PNG_SIGNATURE)] == PNG_SIGNATURE:
        return _read_png(data, name)
    if data[: len(JPEG_SIGNATURE)] == JPEG_SIGNATURE:
        return _read_jpeg(data, name)
    raise BenchError(f"{name}: neither a PNG nor a JPEG ({len(data)} bytes)")


def read_file_header(path: Path) -> ImageHeader:
    """Read the header of a file, see `read_header`; of a large file only the pages that are looked at."""
    with path.open("rb") as file:
        if not path.stat().st_size:  # nothing to map
            return read_header(b"", str(path))
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return read_header(data, str(path))


def pixel_chunks(data: bytes) -> bytes:
    """Leave out of a whole PNG what does not show: long texts and profiles, at which decoders take offence."""
    kept = (data[start - 8 : end + 4] for kind, start, end in _chunks(data) if kind in _PIXEL_CHUNKS)
    return PNG_SIGNATURE + b"".join(kept)


def without_orientation(data: bytes, name: str) -> bytes:
    """Take the Exif orientation out of a picture whose stored pixels are the ones that are meant; none is decoded."""
    header = read_header(data, name)
    if header.orientation == 1:
        return data
    if header.kind == "png":
        kept = (data[start - 8 : end + 4] for kind, start, end in _chunks(data) if kind != b"eXIf")
        return PNG_SIGNATURE + b"".join(kept)
    at = header.orientation_at
    upright = struct.pack("<H" if data[at + 1] == 0 else ">H", 1)
    return data[:at] + upright + data[at + 2 :]


def _believable(header: ImageHeader, name: str, least_bytes: int, got: int) -> ImageHeader:
    """Refuse a header whose pixels cannot be in the file, or would not fit the memory."""
    size = f"its header says {header.height}×{header.width} pixels"
    if not 0 < header.height * header.width <= MOST_PIXELS:
        raise BenchError(f"{name}: {size}, at most {MOST_PIXELS:,} are read: the file is damaged or too large")
    if got < least_bytes:
        raise BenchError(f"{name}: {size}, for which {got} bytes are too few: the file is cut off or damaged")
    return header


def _chunks(data: Bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, first byte and end of the content of every chunk of a PNG, as far as they are whole."""
    start = len(PNG_SIGNATURE) + 8
    while start + 4 <= len(data):
        length = int.from_bytes(data[start - 8 : start - 4])
        kind, end = data[start - 4 : start], start + length
        if end + 4 > len(data):
            return
        yield kind, start, end
        if kind == b"IEND":
            return
        start = end + 12


def _read_png(data: Bytes, name: str) -> ImageHeader:
    first = last = b""
    deflated, orientation = 0, 1
    for kind, start, end in _chunks(data):
        first, last = first or (kind if end - start == 13 else b"no header"), kind
        if kind == b"IDAT":
            deflated += end - start
        elif kind == b"eXIf":
            orientation = _orientation(data[start:end])[0]
    if first != b"IHDR":
        raise BenchError(f"{name}: neither a PNG nor a JPEG ({len(data)} bytes)")
    if last != b"IEND":
        raise BenchError(f"{name}: the PNG is cut off after {len(data)} bytes: fetch or copy it again")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    row = 1 + -(-width * _CHANNELS.get(colour, 1) * depth // 8)
    header = ImageHeader(
        kind="png", height=height, width=width, depth=depth, colour=colour, orientation=orientation
    )  # fmt: skip
    return _believable(header, name, -(-height * row // MOST_DEFLATED), deflated)


def _segments(data: Bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, first byte and end of the content of every segment of a JPEG before the first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _BARE:
            at += 2
        else:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
            yield marker, at + 4, end
            if marker == _SCAN:
                return
            at = end


def _read_jpeg(data: Bytes, name: str) -> ImageHeader:
    frame, orientation, orientation_at = None, 1, 0
    for marker, start, end in _segments(data):
        if marker in _FRAMES and frame is None and start + 6 <= len(data):
            frame = marker, *struct.unpack(">BHHB", data[start : start + 6])
        elif marker == _APP1 and not orientation_at and data[start : start + len(_EXIF)] == _EXIF:
            tiff = start + len(_EXIF)
            orientation, at = _orientation(data[tiff:end])
            orientation_at = at and tiff + at
    if frame is None:
        raise BenchError(f"{name}: no frame header in {len(data)} bytes: the JPEG is cut off or damaged")
    marker, depth, height, width, channels = frame
    header = ImageHeader(
        kind="jpg", height=height, width=width, depth=depth, colour=GREY if channels == 1 else RGB,
        orientation=orientation, orientation_at=orientation_at,
    )  # fmt: skip
    # Arithmetic coding may spend less than a bit on a block.
    blocks = 0 if marker in _ARITHMETIC else -(-height // 8) * -(-width // 8)
    return _believable(header, name, blocks * LEAST_BLOCK_BITS // 8, len(data))


def _orientation(tiff: bytes) -> tuple[int, int]:
    """Orientation in the first directory of an Exif block, and where it stands; (1, 0) where it does not.

    Damage is passed over, as every viewer does: such a picture is shown as it is stored.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1, 0
    first = struct.unpack(f"{order}I", tiff[4:8])[0]
    count = struct.unpack(f"{order}H", tiff[first : first + 2])[0] if first + 2 <= len(tiff) else 0
    for at in range(first + 2, min(first + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, _, value = struct.unpack(f"{order}HHIH", tiff[at : at + 10])
        if tag == _ORIENTATION and kind == _SHORT:
            return (value, at + 8) if 1 <= value <= 8 else (1, 0)
    return 1, 0
