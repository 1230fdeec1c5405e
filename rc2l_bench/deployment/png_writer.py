"""Write a PNG from top to bottom, so that a picture larger than memory can be written (W3C PNG specification)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from rc2l_bench.data.image_headers import GREY, PALETTE, PNG_SIGNATURE, RGB
from rc2l_bench.files import sync, temporary_name

Pixels = NDArray[np.uint8]

NO_FILTER, UP = 0, 2
"""Filters of a row: its bytes, or their differences to the row above, which shrink photos."""


class PngWriter:
    """An 8-bit PNG that is there as a whole or not at all: it gets its name when it is closed."""

    def __init__(
        self, path: Path, size: tuple[int, int], palette: Sequence[Sequence[int]] | None, channels: int
    ) -> None:
        """Begin the file; missing folders are made.

        Args:
            path: the file.
            size: height and width.
            palette: colours of the values; white for those beyond. None = grey or RGB.
            channels: 1 or 3.
        """
        self.path = path
        self.height, self.width = size
        self.channels = channels
        self.written = 0
        self.last = np.zeros(self.width * channels, np.uint8)
        self.deflate = zlib.compressobj(6)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.part = temporary_name(path)
        self.file = self.part.open("wb")
        self.file.write(PNG_SIGNATURE)
        kind = RGB if channels == 3 else PALETTE if palette else GREY
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", self.width, self.height, 8, kind, 0, 0, 0))
        if palette:
            colours = np.full((256, 3), 255, np.uint8)
            colours[: len(palette)] = palette
            self._chunk(b"PLTE", colours.tobytes())

    def __enter__(self) -> PngWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self.file.close()
            self.part.unlink(missing_ok=True)

    def _chunk(self, kind: bytes, body: bytes) -> None:
        self.file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))

    def write(self, rows: Pixels) -> None:
        """Append rows, (n, W) or (n, W, 3)."""
        flat = rows.reshape(len(rows), self.width * self.channels)
        filtered = np.empty((len(flat), 1 + self.width * self.channels), np.uint8)
        filtered[:, 0] = UP if self.channels == 3 else NO_FILTER
        if self.channels == 3:
            # Differences modulo 256, as the specification wants them.
            filtered[:, 1:] = flat - np.concatenate([self.last[None], flat[:-1]])
            self.last = flat[-1].copy() if len(flat) else self.last
        else:
            filtered[:, 1:] = flat
        self.written += len(flat)
        if body := self.deflate.compress(filtered.tobytes()):
            self._chunk(b"IDAT", body)

    def _finish(self) -> None:
        assert self.written == self.height, f"{self.written} of {self.height} rows"
        self._chunk(b"IDAT", self.deflate.flush())
        self._chunk(b"IEND", b"")
        sync(self.file)
        self.file.close()
        self.part.replace(self.path)
