"""Write what was predicted: masks, overlays, confidence maps, a table of class shares, and where it all comes from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rc2l_bench.deployment.png_writer import PngWriter
from rc2l_bench.deployment.windows import Band
from rc2l_bench.errors import UsageError
from rc2l_bench.files import write_atomically

FOLDERS = MASKS, OVERLAYS, CONFIDENCE = "masks", "overlays", "confidence"
"""Of the three kinds of pictures."""
SHARES, ORIGIN = "shares.csv", "prediction.json"
OPACITY = 0.5
"""Of the colours of classes over the photo."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Extras:
    """Which pictures are written beside the masks."""

    overlay: bool = False
    confidence: bool = False


@dataclass
class ClassShares:
    """One row of the table.

    Attributes:
        image: where the picture came from.
        mask: file of its mask, below the folder of results.
        size: height and width, pixels.
        view: how the network has seen it: `whole`, `windows` or `fit`.
        pixels: number of pixels by class, (K,).
        confidence: sum over pixels of the probability of the class.
    """

    image: str
    mask: str
    size: tuple[int, int]
    view: str
    pixels: NDArray[np.int64]
    confidence: float = field(default=0.0)

    def row(self) -> list[str]:
        """Write it as fields: shares and the mean confidence in [0, 1]."""
        count = self.size[0] * self.size[1]
        shares = [f"{number / count:.6f}" for number in self.pixels]
        sides = [str(side) for side in self.size]
        return [self.image, self.mask, *sides, self.view, f"{self.confidence / count:.6f}", *shares]


class PhotoWriter:
    """The pictures of one photo, written band by band; all of them are there at the end, or none."""

    def __init__(
        self, out: Path, name: str, shares: ClassShares, palette: Sequence[Sequence[int]], extras: Extras
    ) -> None:
        """Begin the files.

        Args:
            out: folder of results.
            name: of the pictures, without suffix.
            shares: row of the table, which is counted up.
            palette: colours of the classes.
            extras: what is wanted beside the mask.
        """
        self.shares = shares
        self.table = np.array(palette, np.uint8)
        self.stack = ExitStack()

        def open_png(kind: str, channels: int, colours: Sequence[Sequence[int]] | None = None) -> PngWriter:
            path = out / kind / f"{name}.png"
            return self.stack.enter_context(PngWriter(path, shares.size, colours, channels))

        with ExitStack() as safe:  # closes what is open when the next file cannot be opened
            safe.push(self.stack)
            self.mask = open_png(MASKS, 1, palette)
            self.overlay = open_png(OVERLAYS, 3) if extras.overlay else None
            self.confidence = open_png(CONFIDENCE, 1) if extras.confidence else None
            safe.pop_all()

    def __enter__(self) -> PhotoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.__exit__(kind, error, trace)

    def write(self, band: Band) -> None:
        """Append a band to every picture and count it."""
        self.shares.pixels += np.bincount(band.classes.ravel(), minlength=len(self.table))
        self.shares.confidence += float(band.confidence.sum(dtype=np.float64))
        self.mask.write(band.classes)
        if self.overlay:
            self.overlay.write(blend(band.pixels, self.table[band.classes]))
        if self.confidence:
            self.confidence.write(np.rint(band.confidence * 255).astype(np.uint8))


def require_own(out: Path) -> None:
    """Make sure that nothing is replaced but predictions.

    Raises:
        UsageError: there is no folder to write into, or pictures are there that nothing says are predictions.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: expected a folder")
    for folder in FOLDERS:
        if not (out / ORIGIN).is_file() and any((out / folder).glob("*")):
            raise UsageError(
                f"{out / folder}: has files, and no {ORIGIN} says that they are predictions: choose another --out"
            )


def blend(pixels: Pixels, colours: Pixels) -> Pixels:
    """Lay colours over a photo, both (n, W, 3) uint8."""
    return np.rint(pixels * (1 - OPACITY) + colours * OPACITY).astype(np.uint8)


def write_shares(out: Path, shares: Sequence[ClassShares], classes: Sequence[str]) -> None:
    """Write the table: a row per picture, a column per class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [f"share_{name}" for name in classes]
    writer.writerow(["image", "mask", "height", "width", "view", "confidence", *heads])
    writer.writerows(row.row() for row in shares)
    write_atomically(out / SHARES, text.getvalue().encode("utf-8", "surrogateescape"))


def write_origin(out: Path, content: Mapping[str, Any]) -> None:
    """Write what made the pictures, for whoever finds them."""
    write_atomically(out / ORIGIN, json.dumps(content, indent=2).encode() + b"\n")
