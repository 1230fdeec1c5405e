"""A folder of shards, open for reading: samples by their position, read by offset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rc2l_bench.data import index
from rc2l_bench.data.decode import Pixels, decode_image, decode_mask
from rc2l_bench.data.index import REPAIR
from rc2l_bench.data.order import Numbers
from rc2l_bench.data.sample_table import Entry, Member, SampleTable
from rc2l_bench.data.selection import Selection
from rc2l_bench.data.storage import Disk, Piece, Storage
from rc2l_bench.errors import BenchError


class Encoded(NamedTuple):
    """The files of a sample, as they were packed."""

    entry: Entry
    image: bytes
    mask: bytes | None


class Shards:
    """Samples in tars, or in files of their own. May be pickled, and used after a fork.

    Attributes:
        folder: where the index is.
        index: what index.json says.
        ids: sample ids in rising order; the position of an id is what the other methods take.
    """

    def __init__(self, folder: Path, *, trusted: bool = False) -> None:
        """Read the index; the samples are looked at when they are asked for.

        Args:
            folder: with index.json and the list of samples.
            trusted: whether the list was compared with its hash before.

        Raises:
            BenchError: there is no index, or it is not what was written.
        """
        self.folder = folder
        self.index = index.read(folder / index.NAME)
        path = folder / index.TABLE
        if not trusted:
            index.check_table(path, self.index)
        self.table = SampleTable(path, self.index.samples.count)
        self.ids: Sequence[str] = self.table.ids
        self.storage: Storage = Disk(folder)

    def __len__(self) -> int:
        return len(self.table)

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return _reopen, (self.folder,)

    def close(self) -> None:
        """Close the files; reading opens them again."""
        self.storage.close()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return tuple(self.index.dataset.classes)

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width that every image of the data set fits into, pixels."""
        return self.index.dataset.canvas

    @property
    def largest(self) -> tuple[int, int]:
        """Height and width that every image here fits into, pixels."""
        return self.index.samples.largest

    @property
    def most_pixels(self) -> int:
        """Of the largest image; 0 without any."""
        return self.index.samples.most_pixels

    @property
    def digest(self) -> str:
        """Stands for the bytes of all samples."""
        return self.index.digest

    @property
    def labelled(self) -> bool:
        """Whether there are samples and each has a mask."""
        return 0 < self.index.samples.with_mask == len(self)

    def select(self, ids: Iterable[str], *, without: bool = False) -> Selection:
        """Choose samples by their ids.

        Args:
            ids: each at most once.
            without: take all others instead.

        Raises:
            BenchError: one is not here.
        """
        return Selection(len(self), list(self.table.find(ids)), without=without)

    def sizes(self, positions: Numbers) -> Numbers:
        """Give the heights and widths (N, 2) of the images at (N,) positions, pixels."""
        return self.table.sizes(positions)

    def read(self, positions: Iterable[int]) -> list[Encoded]:
        """Read the files of samples, side by side where they come from far away.

        Raises:
            BenchError: a shard is missing, cut off, damaged or out of reach.
        """
        entries = [self.table.entry(position) for position in positions]
        wanted = [(entry, member) for entry in entries for member in (entry.image, entry.mask) if member is not None]
        found = iter(self.storage.read([self._piece(*pair) for pair in wanted]))
        return [Encoded(entry, next(found), next(found) if entry.mask else None) for entry in entries]

    def decode_image(self, sample: Encoded) -> Pixels:
        """Decode an image: (H, W, 3) uint8.

        Raises:
            BenchError: it cannot be decoded, or has another size than the index says.
        """
        name = self._name(sample.entry)
        return _of_size(sample.entry, decode_image(sample.image, name), name)

    def decode_mask(self, sample: Encoded) -> Pixels:
        """Decode a mask: (H, W) uint8, class indices and 255.

        Raises:
            BenchError: there is none; it cannot be decoded, or has another size than the index says.
        """
        name = f"{self._name(sample.entry)}, mask"
        if sample.mask is None:
            raise BenchError(f"{name}: there is none: this sample is unlabelled")
        return _of_size(sample.entry, decode_mask(sample.mask, name), name)

    def read_image(self, position: int) -> Pixels:
        """Read and decode an image; see `read` and `decode_image`."""
        return self.decode_image(self.read([position])[0])

    def read_mask(self, position: int) -> Pixels:
        """Read and decode a mask; see `read` and `decode_mask`."""
        return self.decode_mask(self.read([position])[0])

    def _file(self, entry: Entry) -> str:
        return entry.id if self.index.layout == "files" else self.index.shards[entry.shard].name

    def _name(self, entry: Entry) -> str:
        return f"{self.folder / self._file(entry)}: sample '{entry.id}'"

    def _piece(self, entry: Entry, member: Member) -> Piece:
        return Piece(self._file(entry), *member, f"sample '{entry.id}'")


def _reopen(folder: Path) -> Shards:
    return Shards(folder, trusted=True)


def _of_size(entry: Entry, pixels: Pixels, name: str) -> Pixels:
    height, width = pixels.shape[:2]
    if (height, width) != (entry.height, entry.width):
        raise BenchError(f"{name}: {height}×{width} pixels, expected {entry.height}×{entry.width}: {REPAIR}")
    return pixels
