"""The door of the benchmark: every image and mask is decoded once and checked, and a table says what is there."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rc2l_bench.data.datasets.base import PARTS, Dataset, Sample
from rc2l_bench.data.decode import Pixels, decode_image, decode_mask
from rc2l_bench.data.image_headers import read_header
from rc2l_bench.errors import BenchError
from rc2l_bench.files import say, write_atomically
from rc2l_bench.readers import DamagedFileError, parse_rows, parse_text, read_bytes, reading
from rc2l_bench.types import IGNORE

COLUMNS = ("id", "part", "height", "width", "image_sha256", "labelled")
"""Then one column for each class, with its pixels, and `ignored`."""
_END = "# sha256: "
"""Begins the last line, a comment: the hash of all lines before it."""
MOST_BYTES = 1 << 30
"""Of a catalog: some millions of rows."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sample.

    Attributes:
        id: unique within its part.
        part: `train`, `val` or `test`.
        height: pixels.
        width: pixels.
        image_sha256: of the bytes of the image file.
        labelled: whether it has a mask.
        pixels: of each class; all 0 without a mask.
        ignored: pixels of label 255.
    """

    id: str
    part: str
    height: int
    width: int
    image_sha256: str
    labelled: bool
    pixels: tuple[int, ...]
    ignored: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """All samples of a data set, sorted by (part, id), and its classes."""

    classes: tuple[str, ...]
    rows: tuple[Row, ...]

    def of(self, part: str) -> tuple[Row, ...]:
        """The rows of a part, sorted by id."""
        return tuple(row for row in self.rows if row.part == part)

    def ids(self, part: str) -> tuple[str, ...]:
        """The ids of a part, sorted."""
        return tuple(row.id for row in self.of(part))


def make(dataset: Dataset, raw: Path) -> Catalog:
    """Read, decode and check every sample, one at a time in memory.

    Raises:
        BenchError: an image or mask cannot be decoded, they differ in size, an image is larger than the canvas, a label
            is out of range, an id is there twice in a part, a part lacks the masks that training or scoring needs or
            has a mask but no labelled pixel, or a class has no pixel in train or in val.
    """
    rows = tuple(row for part in sorted(PARTS) for row in _rows(dataset, raw, part))
    for part in ("train", "val"):
        if not any(row.labelled for row in rows if row.part == part):
            raise BenchError(f"{dataset.name}: {part} has no image with a mask, at least one is needed")
    for part in ("val", "test"):
        bare = [row.id for row in rows if row.part == part and not row.labelled]
        if bare and (part == "val" or any(row.labelled for row in rows if row.part == part)):
            raise BenchError(f"{dataset.origin(raw, part, bare[0])}: is in {part} and has no mask, which scoring needs")
    for part in PARTS:
        _check_classes(dataset, part, [row for row in rows if row.part == part and row.labelled])
    return Catalog(dataset.classes, rows)


def _check_classes(dataset: Dataset, part: str, rows: Sequence[Row]) -> None:
    """Make sure that the masks of a part say something about every class.

    A score over classes that nobody has is right without a prediction being right. In test, where nothing is chosen or
    learnt, a class may be missing; that is said.
    """
    if not rows:
        return
    pixels = [sum(row.pixels[k] for row in rows) for k in range(len(dataset.classes))]
    ignored = sum(row.ignored for row in rows)
    if not any(pixels):
        raise BenchError(f"{dataset.name}: every pixel of all {len(rows)} masks in {part} is ignored ({IGNORE})")
    seen = [k for k, count in enumerate(pixels) if count] + [IGNORE] * bool(ignored)
    missing = [(k, label) for k, label in enumerate(dataset.classes) if not pixels[k]]
    strange = [(k, label) for k, label in missing if label not in dataset.rare_classes and part != "test"]
    shown = ", ".join(f"'{label}'" for _, label in missing)
    if strange:
        k, label = strange[0]
        more = f" (and {len(strange) - 1} more classes)" if strange[1:] else ""
        raise BenchError(
            f"{dataset.name}: no mask in {part} has a pixel of class {k}, '{label}'{more}; labels that they have: "
            f"{', '.join(map(str, seen))}: {dataset.remedy(seen)}"
        )
    if missing:
        say(f"{dataset.name}: {part} has no pixel of {shown}: not {'learnt' if part == 'train' else 'scored'} there")


def write(catalog: Catalog, path: Path) -> None:
    """Write the table as CSV, whole or not at all; the last line, a comment, holds the hash of all before it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *catalog.classes, "ignored"])
    for row in catalog.rows:
        head = [row.id, row.part, row.height, row.width, row.image_sha256, int(row.labelled)]
        writer.writerow([*head, *row.pixels, row.ignored])
    body = text.getvalue().encode()
    write_atomically(path, body + _seal(body))


def _seal(body: bytes) -> bytes:
    return f"{_END}{hashlib.sha256(body).hexdigest()}\n".encode()


def read(path: Path) -> Catalog:
    """Read a table that `write` made, and check that it is whole.

    Raises:
        BenchError: the file is missing, cut off or was changed.
    """
    hint = "make it again with `rc2l-bench run` or `dvc repro`"
    try:
        data = read_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        raise BenchError(f"{path}: missing: {hint}") from None
    body = data[: -len(_seal(b""))]
    if body + _seal(body) != data:
        raise DamagedFileError(f"{path}: not a whole catalog, or changed since it was written: delete it and {hint}")
    header, *lines = parse_rows(parse_text(body, path), path) or [[]]
    if tuple(header[: len(COLUMNS)]) != COLUMNS or header[-1] != "ignored":
        raise DamagedFileError(f"{path}: no catalog, its columns are others: {hint}")
    with reading(path, f"delete it and {hint}"):
        rows = tuple(_parse(line, len(header)) for line in lines)
    return Catalog(tuple(header[len(COLUMNS) : -1]), rows)


def _parse(line: list[str], columns: int) -> Row:
    if len(line) != columns:
        raise ValueError(f"a row has {len(line)} columns instead of {columns}")
    height, width, labelled = int(line[2]), int(line[3]), line[5] == "1"
    *pixels, ignored = map(int, line[len(COLUMNS) :])
    if sum(pixels) + ignored != height * width * labelled:
        raise ValueError(f"the pixels of '{line[0]}' do not add up to {height}×{width}")
    return Row(line[0], line[1], height, width, line[4], labelled, tuple(pixels), ignored)


def _rows(dataset: Dataset, raw: Path, part: str) -> Iterator[Row]:
    before = None
    for sample in dataset.samples(raw, part):
        if before is not None and sample.id <= before:
            fault = "is there twice" if sample.id == before else f"comes after '{before}': ids must be sorted"
            raise BenchError(f"{dataset.name}: the id '{sample.id}' in {part} {fault}")
        before = sample.id
        yield _row(dataset, raw, sample)


def _row(dataset: Dataset, raw: Path, sample: Sample) -> Row:
    image = partial(dataset.origin, raw, sample.part, sample.id)
    height, width = _decode(decode_image, sample.image, image).shape[:2]
    if height > dataset.canvas[0] or width > dataset.canvas[1]:
        canvas = "×".join(map(str, dataset.canvas))
        raise BenchError(f"{image()}: {height}×{width} pixels do not fit the canvas of {dataset.name}, {canvas}")
    counts = np.zeros(IGNORE + 1, np.int64)
    if sample.mask is not None:
        counts = _labels(sample, (height, width), len(dataset.classes), partial(image, mask=True))
    return Row(
        id=sample.id,
        part=sample.part,
        height=height,
        width=width,
        image_sha256=hashlib.sha256(sample.image).hexdigest(),
        labelled=sample.mask is not None,
        pixels=tuple(counts[: len(dataset.classes)].tolist()),
        ignored=int(counts[IGNORE]),
    )


def _labels(sample: Sample, size: tuple[int, int], classes: int, origin: Callable[[], str]) -> NDArray[np.int64]:
    """(256,) pixels of each label of a mask, after the checks."""
    assert sample.mask is not None, sample.id
    mask = _decode(decode_mask, sample.mask, origin)
    if mask.shape != size:
        turned = read_header(sample.image, sample.id).orientation
        why = f" once it is turned by its Exif orientation, {turned}" if turned != 1 else ""
        raise BenchError(
            f"{origin()}: the mask has {mask.shape[0]}×{mask.shape[1]} pixels, its image {size[0]}×{size[1]}{why}"
        )
    counts = np.bincount(mask.ravel(), minlength=IGNORE + 1).astype(np.int64)
    if counts[classes:IGNORE].any():
        label = classes + int(np.flatnonzero(counts[classes:IGNORE])[0])
        allowed = f"{classes} classes allow 0..{classes - 1} and {IGNORE}"
        raise BenchError(f"{origin()}: label {label} at {counts[label]} pixels, but {allowed}")
    return counts


def _decode(decode: Callable[..., Pixels], data: bytes, origin: Callable[[], str]) -> Pixels:
    """Decodes; only where that fails is the name of the file looked up, for the message."""
    try:
        return decode(data)
    except BenchError:
        return decode(data, origin())
