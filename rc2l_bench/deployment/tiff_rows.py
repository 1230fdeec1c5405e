"""Read a TIFF in bands, so that a picture larger than memory is seen through windows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rc2l_bench.deployment.photo_files import too_deep
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.readers import reading

Pixels = NDArray[np.uint8]

MOST_BAND = 1 << 28
"""Pixels of the largest piece that is decoded at a time: a compressed strip, or a row of tiles."""
COLOURS = {"RGB": 3, "MINISBLACK": 1, "YCBCR": 3}
"""Photometric interpretations that need no table of colours, and their channels. YCbCr comes out of a JPEG as RGB."""
CONTIGUOUS = 1
"""Planar configuration in which the channels of a pixel lie side by side."""
UPRIGHT = 1
"""Orientation (tag 274) of pixels that are stored as they are looked at."""


class TiffRows:
    """The first page of a TIFF from top to bottom. Strips and rows of tiles are decoded when they are needed."""

    def __init__(self, page: Any, path: Path) -> None:  # noqa: ANN401 - tifffile has no types
        """Check that the page can be read in bands.

        Args:
            page: of tifffile.
            path: for messages.

        Raises:
            BenchError: it has more than 8 bits per channel, a table of colours, planes, an orientation, or one strip.
        """
        self.page = page
        self.path = path
        self.bands: dict[int, Pixels] = {}
        self.size = (int(page.imagelength), int(page.imagewidth))
        self.step = int(page.tilelength if page.is_tiled else page.rowsperstrip)
        across = -(-self.size[1] // int(page.tilewidth)) if page.is_tiled else 1
        self.pieces = across
        self.channels = COLOURS.get(page.photometric.name, 0)
        self._check()
        # Not compressed and in one piece, as many programs write: the file itself is the array.
        self.mapped: Pixels | None = None
        if page.is_memmappable:
            offset, shape = page.dataoffsets[0], (*self.size, page.samplesperpixel)
            self.mapped = np.memmap(path, np.uint8, "r", offset, shape)
        elif min(self.step, self.size[0]) * self.size[1] > MOST_BAND:
            raise BenchError(f"{path}: is compressed in one piece: save it in strips or tiles, or uncompressed")

    def _check(self) -> None:
        page = self.page
        orientation = page.tags.valueof(274, default=UPRIGHT)
        if page.dtype != np.uint8:
            raise too_deep(self.path, f"channels of {page.dtype}")
        kind, packed = page.photometric.name, page.compression.name
        unknown = not self.channels or (kind == "YCBCR" and packed != "JPEG")
        if unknown or page.planarconfig != CONTIGUOUS or orientation != UPRIGHT:
            found = f"{kind}, compression {packed}, planes {page.planarconfig}, orientation {orientation}"
            raise BenchError(f"{self.path}: a large TIFF of kind {found}: save it upright as RGB or grey, interleaved")

    @property
    def alpha(self) -> bool:
        """Whether there are channels beyond the colours."""
        return bool(self.page.samplesperpixel > self.channels)

    def read(self, start: int, stop: int) -> Pixels:
        """See `photo_files.Rows`."""
        if self.mapped is not None:
            return self._colours(self.mapped[start:stop])
        numbers = range(start // self.step, -(-stop // self.step))
        # What lies above the window is never asked for again.
        self.bands = {number: band for number, band in self.bands.items() if number >= numbers.start}
        for number in numbers:
            if number not in self.bands:
                self.bands[number] = self._decode(number)
        whole = np.concatenate([self.bands[number] for number in numbers])
        first = numbers.start * self.step
        return whole[start - first : stop - first]

    def _decode(self, number: int) -> Pixels:
        """One strip, or one row of tiles, as RGB."""
        page, file = self.page, self.page.parent.filehandle
        rows = min(self.step, self.size[0] - number * self.step)
        band = np.zeros((rows, self.size[1], page.samplesperpixel), np.uint8)
        for index in range(number * self.pieces, (number + 1) * self.pieces):
            file.seek(page.dataoffsets[index])
            with reading(self.path, "the TIFF is damaged, or compressed in a way that needs another package"):
                data = file.read(page.databytecounts[index])
                piece, (_, _, _, left, _), _ = page.decode(data, index, jpegtables=page.jpegtables)
            # An empty piece is black, as TIFF's sparse files mean it; a tile may reach beyond the picture.
            if piece is not None:
                inside = piece[0, :rows, : self.size[1] - left]
                band[: inside.shape[0], left : left + inside.shape[1]] = inside
        return self._colours(band)

    def _colours(self, band: Pixels) -> Pixels:
        return np.repeat(band[..., :1], 3, axis=2) if self.channels == 1 else np.ascontiguousarray(band[..., :3])


@contextmanager
def open_tiff(path: Path) -> Iterator[TiffRows]:
    """Open a TIFF to be read in bands.

    Raises:
        UsageError: the package that does so is not installed.
        BenchError: see `TiffRows`; or it is damaged.
    """
    try:
        import tifffile
    except ModuleNotFoundError:
        raise UsageError(f"{path}: pictures of this size need pip install 'rc2l-bench[tiff]'") from None
    with reading(path):
        opened = tifffile.TiffFile(path)
    with opened:
        with reading(path):
            rows = TiffRows(opened.pages.first, path)
        yield rows
