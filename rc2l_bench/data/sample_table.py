"""The samples of a folder of shards as an Arrow file, mapped into memory: no Python object for each of a million.

The file has record batches of one number of rows, so that the place of a row is known by its position; its columns are
read where they lie. Processes that have it open share its pages.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, overload

import numpy as np
import pyarrow as pa

from rc2l_bench.data.arrow_columns import HASH, make_column, view_numbers
from rc2l_bench.data.order import Numbers
from rc2l_bench.errors import BenchError
from rc2l_bench.readers import DamagedFileError
from rc2l_bench.schema import Model

NAME = "samples.arrow"
ROWS = 1 << 16
"""Rows of a record batch."""
_COLUMNS = {
    "id": pa.string(),
    "shard": pa.int32(),
    "height": pa.int32(),
    "width": pa.int32(),
    "kind": pa.int32(),
    "image_offset": pa.int64(),
    "image_size": pa.int64(),
    "image_sha256": HASH,
    "mask_offset": pa.int64(),
    "mask_size": pa.int64(),
    "mask_sha256": HASH,
}
SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in _COLUMNS.items()])
"""One row a sample, in rising order of ids: the shard by its number, height and width in pixels, the kind of its
image's file by its place in `KINDS`; then where image and mask lie in the shard, bytes, and their hashes. Without a
mask its three values are zero: no mask begins at 0, and nulls would cost a copy of every column that is read."""
Kind = Literal["png", "jpg"]
KINDS: tuple[Kind, ...] = ("png", "jpg")
_NO_MEMBER = (0, 0, bytes(32))


class Member(NamedTuple):
    """An image or mask inside a shard: offset of its first byte, number of bytes, sha256 of them."""

    offset: int
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row.

    Attributes:
        id: of the sample.
        shard: number of the shard that it lies in.
        height: of the image, pixels.
        width: of the image, pixels.
        kind: of the image's file.
        image: the image, in the bytes of its source.
        mask: the mask, a PNG; None = there is none.
    """

    id: str
    shard: int
    height: int
    width: int
    kind: Kind
    image: Member
    mask: Member | None


class Summary(Model):
    """What is known of a table without looking into it."""

    count: int
    """Rows."""
    with_mask: int
    """Rows that have a mask."""
    largest: tuple[int, int]
    """Height and width that every image fits into, pixels."""
    most_pixels: int
    """Of one image."""
    ids_sha256: str
    """sha256 of the ids in rising order, joined by newlines; see `splits.split_id`."""


class TableWriter:
    """Writes a table row by row; its bytes depend on the rows alone."""

    def __init__(self, path: Path) -> None:
        """Open a new file."""
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._file, SCHEMA)
        self._rows: list[tuple[Any, ...]] = []
        self._ids = hashlib.sha256()
        self._count = self._with_mask = self._height = self._width = self._pixels = 0
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        with self._file, self._writer:
            if kind is None:
                self._flush()

    def add(self, entry: Entry) -> None:
        """Append a row; ids must rise."""
        assert entry.id > self._last, f"'{entry.id}' comes after '{self._last}'"
        self._last = entry.id
        self._ids.update(("\n" * (self._count > 0) + entry.id).encode())
        self._count += 1
        self._with_mask += entry.mask is not None
        self._height, self._width = max(self._height, entry.height), max(self._width, entry.width)
        self._pixels = max(self._pixels, entry.height * entry.width)
        numbers = (entry.shard, entry.height, entry.width, KINDS.index(entry.kind))
        self._rows.append((entry.id, *numbers, *entry.image, *(entry.mask or _NO_MEMBER)))
        if len(self._rows) == ROWS:
            self._flush()

    def summary(self) -> Summary:
        """Sum up the rows that were added."""
        return Summary(
            count=self._count,
            with_mask=self._with_mask,
            largest=(self._height, self._width),
            most_pixels=self._pixels,
            ids_sha256=self._ids.hexdigest(),
        )

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [make_column(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
            self._writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))
            self._rows = []


class SampleTable:
    """A table, open for reading."""

    def __init__(self, path: Path, count: int) -> None:
        """Map a table into memory.

        Args:
            path: of the file.
            count: rows that it has.

        Raises:
            FileNotFoundError: it is missing.
            DamagedFileError: it is no such table.
        """
        self.path, self._count = path, count
        try:
            self._map = pa.memory_map(str(path))
            self._reader = pa.ipc.open_file(self._map)
        except pa.ArrowInvalid as error:
            raise DamagedFileError(f"{path}: no Arrow file ({str(error).splitlines()[0][:120]})") from None
        if not self._reader.schema.equals(SCHEMA) or self._reader.num_record_batches != -(-count // ROWS):
            raise DamagedFileError(f"{path}: no table of {count} samples")
        self._chunks: dict[int, _Chunk] = {}

    def __len__(self) -> int:
        return self._count

    @cached_property
    def ids(self) -> Ids:
        """The ids in rising order."""
        return Ids(self)

    def entry(self, position: int) -> Entry:
        """Read one row."""
        number, row = divmod(position, ROWS)
        return self._chunk(number).entry(row)

    def entries(self, positions: range) -> Iterator[Entry]:
        """Read rows one after the other."""
        return map(self.entry, positions)

    def sizes(self, positions: Numbers) -> Numbers:
        """Read the heights and widths (N, 2) of the images at (N,) positions, pixels."""
        places = (divmod(position, ROWS) for position in positions.tolist())
        found = [(self._chunk(number).height[row], self._chunk(number).width[row]) for number, row in places]
        return np.array(found, np.int64).reshape(-1, 2)

    def find(self, ids: Iterable[str]) -> Iterator[int]:
        """Find the positions of ids.

        Raises:
            BenchError: one is not there.
        """
        for identity in ids:
            position = self.ids.position_of(identity)
            if position is None:
                raise BenchError(f"{self.path.parent}: has no sample '{identity}': run the stages again")
            yield position

    def hashes(self) -> Iterator[bytes]:
        """Read the sha256 of every image."""
        for number in range(self._reader.num_record_batches):
            yield from self._chunk(number).image_sha256.to_pylist()

    def with_hashes(self, hashes: Iterable[bytes]) -> Numbers:
        """Find the positions of images by the sha256 of their bytes, in rising order."""
        import pyarrow.compute as pc

        wanted = make_column(sorted(set(hashes)), HASH)
        found = [
            view_numbers(pc.indices_nonzero(pc.is_in(self._chunk(number).image_sha256, wanted))).astype(np.int64)
            + number * ROWS
            for number in range(self._reader.num_record_batches)
        ]
        return np.concatenate(found, dtype=np.int64) if found else np.zeros(0, np.int64)

    def _chunk(self, number: int) -> _Chunk:
        """A record batch: pointers into the file, kept because making them takes longer than reading a row."""
        if number not in self._chunks:
            self._chunks[number] = _Chunk(self._reader.get_batch(number))
        return self._chunks[number]


class _Chunk:
    """The columns of a record batch as arrays that lie in the file."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.id: pa.StringArray = batch.column("id")
        names = [name for name, kind in _COLUMNS.items() if kind not in (pa.string(), HASH)]
        numbers = [view_numbers(batch.column(name)) for name in names]
        self.shard, self.height, self.width, self.kind, *self.spans = numbers
        self.image_sha256, self.mask_sha256 = (batch.column(f"{member}_sha256") for member in ("image", "mask"))

    def entry(self, row: int) -> Entry:
        """Read one row."""
        image_offset, image_size, mask_offset, mask_size = (int(column[row]) for column in self.spans)
        return Entry(
            id=self.id[row].as_py(),
            shard=int(self.shard[row]),
            height=int(self.height[row]),
            width=int(self.width[row]),
            kind=KINDS[self.kind[row]],
            image=Member(image_offset, image_size, self.image_sha256[row].as_py()),
            mask=Member(mask_offset, mask_size, self.mask_sha256[row].as_py()) if mask_offset else None,
        )


class LazyIds(Sequence[str], ABC):
    """Ids that are read when they are asked for."""

    @abstractmethod
    def _read(self, position: int) -> str:
        """Read the id at a position from 0."""

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[str, ...]: ...
    def __getitem__(self, position: int | slice) -> str | tuple[str, ...]:
        if isinstance(position, slice):
            return tuple(self[place] for place in range(*position.indices(len(self))))
        if not -len(self) <= position < len(self):
            raise IndexError(position)
        return self._read(position % len(self))


class Ids(LazyIds):
    """The ids of a table."""

    def __init__(self, table: SampleTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def _read(self, position: int) -> str:
        number, row = divmod(position, ROWS)
        found: str = self._table._chunk(number).id[row].as_py()
        return found

    def position_of(self, identity: str) -> int | None:
        """Find an id by bisection: the order of UTF-8 is that of Python's text."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self[middle] < identity:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self[low] == identity else None
