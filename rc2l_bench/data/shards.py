"""A folder of shards, open for reading: samples by their position, read by offset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rc2l_bench.data import index, sample_table
from rc2l_bench.data.addresses import is_remote, without_secrets
from rc2l_bench.data.decode import Pixels, decode_image, decode_mask
from rc2l_bench.data.index import REPAIR, Index
from rc2l_bench.data.order import Numbers
from rc2l_bench.data.sample_table import Entry, Member, SampleTable
from rc2l_bench.data.selection import Selection
from rc2l_bench.data.storage import Disk, Piece, Storage
from rc2l_bench.errors import BenchError


class Encoded(NamedTuple):
    """The files of a sample, as they were packed.

    Attributes:
        entry: what the index says of it.
        name: file and id, for messages.
        image: a PNG or JPEG.
        mask: a PNG; None = the sample is unlabelled.
    """

    entry: Entry
    name: str
    image: bytes
    mask: bytes | None

    def decode_image(self) -> Pixels:
        """Decode the image: (H, W, 3) uint8.

        Raises:
            BenchError: it cannot be decoded, or has another size than the index says.
        """
        return self._of_size(decode_image(self.image, self.name))

    def decode_mask(self) -> Pixels:
        """Decode the mask: (H, W) uint8, class indices and 255.

        Raises:
            BenchError: there is none; it cannot be decoded, or has another size than the index says.
        """
        if self.mask is None:
            raise BenchError(f"{self.name}, mask: there is none: this sample is unlabelled")
        return self._of_size(decode_mask(self.mask, f"{self.name}, mask"))

    def _of_size(self, pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        if (height, width) != (self.entry.height, self.entry.width):
            expected = f"{self.entry.height}×{self.entry.width}"
            raise BenchError(f"{self.name}: {height}×{width} pixels, expected {expected}: {REPAIR}")
        return pixels


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
        path = folder / sample_table.NAME
        if not trusted:
            index.check_table(path, self.index)
        self.table = SampleTable(path, self.index.samples.count)
        self.ids: Sequence[str] = self.table.ids
        self.storage = _storage_of(self.index, folder)

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
        return [
            Encoded(entry, self._name(entry), next(found), next(found) if entry.mask else None) for entry in entries
        ]

    def read_image(self, position: int) -> Pixels:
        """Read and decode an image; see `read` and `Encoded.decode_image`."""
        return self.read([position])[0].decode_image()

    def read_mask(self, position: int) -> Pixels:
        """Read and decode a mask; see `read` and `Encoded.decode_mask`."""
        return self.read([position])[0].decode_mask()

    def _file(self, entry: Entry) -> str:
        if self.index.layout == "files":
            return entry.id
        if entry.shard >= len(self.index.shards):
            raise BenchError(f"{self.folder}: sample '{entry.id}' is in a shard that the index does not list: {REPAIR}")
        return self.index.shards[entry.shard].name

    def _name(self, entry: Entry) -> str:
        place = self.folder if self.index.base is None else Path(without_secrets(self.index.base))
        return f"{place / self._file(entry)}: sample '{entry.id}'"

    def _piece(self, entry: Entry, member: Member) -> Piece:
        return Piece(self._file(entry), *member, f"sample '{entry.id}'")


def _reopen(folder: Path) -> Shards:
    return Shards(folder, trusted=True)


def _storage_of(found: Index, folder: Path) -> Storage:
    if found.base is None or not is_remote(found.base):
        return Disk(folder if found.base is None else Path(found.base))
    from rc2l_bench.data.remote import Remote, copies_of  # only where the network is wanted

    return Remote(found.base, copies_of(found.base))
