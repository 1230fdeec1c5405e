"""Read photos as anybody has them: JPEG and PNG as in training, and other formats that Pillow knows.

References: CIPA DC-008 (Exif), TIFF 6.0.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from rc2l_bench.data.decode import decode_image
from rc2l_bench.data.image_headers import GREY_ALPHA, JPEG_SIGNATURE, PNG_SIGNATURE, RGBA, read_header
from rc2l_bench.errors import BenchError
from rc2l_bench.readers import DamagedFileError, read_bytes, reading

Pixels = NDArray[np.uint8]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"})
"""What is looked for in a folder."""
FORMATS = ("TIFF", "WEBP", "BMP", "GIF")
"""Formats that Pillow may decode here; its others run foreign programs or are hardly tested."""
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MOST_BYTES = 4 << 30
"""Largest file that is read as a whole."""
MOST_WHOLE = 1 << 26
"""Pixels of the largest picture that Pillow decodes as a whole, 200 MB as RGB; a larger TIFF is read in bands."""
BITS_PER_SAMPLE = 258
"""Tag of TIFF 6.0."""
SHALLOW = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
"""Pillow's modes with at most 8 bits per channel that become RGB without a choice of ours."""
TRANSPARENT = frozenset({"LA", "PA", "RGBA"})
ALPHA = "has transparency, which is dropped, as in training"


class TooLargeError(BenchError):
    """A picture does not fit the memory as a whole."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: larger than {MOST_WHOLE:,} pixels: save it as a TIFF, which is read in bands")


class Photo(NamedTuple):
    """One picture.

    Attributes:
        pixels: (H, W, 3) uint8, as viewers show it.
        remark: what was dropped, in words; empty if nothing was.
    """

    pixels: Pixels
    remark: str = ""


class Rows(Protocol):
    """A picture that is read from top to bottom, a band of rows at a time."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""

    def read(self, start: int, stop: int) -> Pixels:
        """Give rows `start` to `stop`, (stop - start, W, 3); neither may become smaller from call to call."""


@dataclass(frozen=True)
class ArrayRows:
    """A picture that is in memory as a whole."""

    pixels: Pixels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.pixels.shape[:2]
        return height, width

    def read(self, start: int, stop: int) -> Pixels:
        """See `Rows`."""
        return self.pixels[start:stop]


def read_photo(path: Path) -> Photo:
    """Read a picture as viewers show it: Exif orientation applied, alpha dropped, the first of several frames.

    Args:
        path: JPEG or PNG, decoded exactly as in training, or one of `FORMATS`.

    Raises:
        OSError: the file is missing or may not be read.
        BenchError: it is no picture, damaged, has more than 8 bits per channel, or is too large to be read as a whole.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(JPEG_SIGNATURE) or start == PNG_SIGNATURE:
        data = read_bytes(path, MOST_BYTES)
        header = read_header(data, str(path))
        alpha = header.kind == "png" and header.colour in (RGBA, GREY_ALPHA)
        return Photo(decode_image(data, str(path)), ALPHA if alpha else "")
    with _open(path) as picture:
        _check(picture, path)
        upright = ImageOps.exif_transpose(picture)
        alpha = picture.mode in TRANSPARENT or "transparency" in picture.info
        return Photo(np.array(upright.convert("RGB"), dtype=np.uint8), ALPHA if alpha else "")


def is_large_tiff(path: Path) -> bool:
    """Tell whether a file is a TIFF of more pixels than are read as a whole."""
    with path.open("rb") as file:
        if file.read(4) not in TIFF_SIGNATURES:
            return False
    try:
        with _open(path) as picture:
            return picture.width * picture.height > MOST_WHOLE
    except TooLargeError:
        return True


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Open what is neither JPEG nor PNG, and tell what Pillow says of it in one line."""
    with reading(path), warnings.catch_warnings():
        # Pillow warns of large pictures by a number of its own.
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=FORMATS) as picture:
                yield picture
        except UnidentifiedImageError:
            raise DamagedFileError(
                f"{path}: no picture of a kind that is known here: JPEG, PNG, {', '.join(FORMATS)}"
            ) from None
        except Image.DecompressionBombError:
            raise TooLargeError(path) from None


def _check(picture: Image.Image, path: Path) -> None:
    """Refuse what would have to be guessed: a network sees 8 bits, and how 16 become 8 is not for us to say."""
    if picture.width * picture.height > MOST_WHOLE:
        raise TooLargeError(path)
    # Pillow itself makes 8 bits of a TIFF's 16 where it has colours.
    depth = max(picture.tag_v2.get(BITS_PER_SAMPLE, (8,))) if isinstance(picture, TiffImageFile) else 8
    if depth > 8 or picture.mode not in SHALLOW:
        raise too_deep(path, f"{depth} bits per channel" if depth > 8 else f"channels of mode {picture.mode}")


def too_deep(path: Path, what: str) -> BenchError:
    """Say what can be done with a picture of more than 8 bits per channel."""
    return BenchError(f"{path}: has {what}, expected 8 bits: convert it as the training images were")
