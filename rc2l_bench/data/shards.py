"""Samples to WebDataset tars and back: the same bytes however often they are built, and read by offset."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rc2l_bench.data import index
from rc2l_bench.data.datasets.base import Sample
from rc2l_bench.data.decode import Pixels, decode_image, decode_mask, size_of
from rc2l_bench.data.index import REPAIR, Member, SampleEntry
from rc2l_bench.data.order import Numbers
from rc2l_bench.data.selection import Selection
from rc2l_bench.data.tar_writer import Tar, find_damage
from rc2l_bench.errors import BenchError
from rc2l_bench.files import exclusive, sync, write_atomically


class Shards:
    """A folder of shards, open for reading. May be pickled, and used after a fork.

    Attributes:
        folder: where the shards are.
        index: what index.json says.
        ids: sample ids in rising order; the position of an id is what the other methods take.
    """

    def __init__(self, folder: Path) -> None:
        """Reads index.json.

        Raises:
            BenchError: there is no index, or it is not what `write` wrote.
        """
        self._files: dict[int, int] = {}
        self.folder = folder
        self.index = index.read(folder / index.NAME)
        self.ids = tuple(entry.id for entry in self.index.samples)

    def __len__(self) -> int:
        return len(self.ids)

    def __reduce__(self) -> tuple[type[Shards], tuple[Path]]:
        return Shards, (self.folder,)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files; reading opens them again."""
        while self._files:
            os.close(self._files.popitem()[1])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return tuple(self.index.dataset.classes)

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width that every image fits into, pixels."""
        return self.index.dataset.canvas

    @property
    def digest(self) -> str:
        """Stands for the bytes of all shards."""
        return self.index.digest

    @cached_property
    def labelled(self) -> bool:
        """Whether there are samples and each has a mask."""
        return bool(self.ids) and all(entry.mask for entry in self.index.samples)

    @cached_property
    def positions(self) -> dict[str, int]:
        """Place by id."""
        return {identity: position for position, identity in enumerate(self.ids)}

    def select(self, ids: Iterable[str]) -> Selection:
        """Choose samples by their ids.

        Raises:
            BenchError: one is not here.
        """
        ids = list(ids)
        unknown = next((identity for identity in ids if identity not in self.positions), None)
        if unknown is not None:
            raise BenchError(f"{self.folder}: has no sample '{unknown}': run the stages again")
        return Selection(len(self), [self.positions[identity] for identity in ids])

    def sizes(self, positions: Numbers) -> Numbers:
        """(N, 2) heights and widths of the images at (N,) positions, pixels."""
        entries = [self.index.samples[position] for position in positions.tolist()]
        return np.array([(entry.height, entry.width) for entry in entries], np.int64).reshape(-1, 2)

    @cached_property
    def most_pixels(self) -> int:
        """Of the largest image; 0 without any."""
        return max((entry.height * entry.width for entry in self.index.samples), default=0)

    def read_image(self, position: int) -> Pixels:
        """Reads and decodes an image.

        Returns:
            (H, W, 3) uint8.

        Raises:
            BenchError: the shard is missing, cut off, or damaged there.
        """
        entry = self.index.samples[position]
        name = self._name(entry)
        return _of_size(entry, decode_image(self._read(entry, entry.image), name), name)

    def read_mask(self, position: int) -> Pixels:
        """Reads and decodes a mask.

        Returns:
            (H, W) uint8, class indices and 255.

        Raises:
            BenchError: the sample has no mask; the shard is missing, cut off, or damaged there.
        """
        entry = self.index.samples[position]
        name = f"{self._name(entry)}, mask"
        if entry.mask is None:
            raise BenchError(f"{name}: there is none: this sample is unlabelled")
        return _of_size(entry, decode_mask(self._read(entry, entry.mask), name), name)

    def _name(self, entry: SampleEntry) -> str:
        return f"{self.folder / self.index.shards[entry.shard].name}: sample '{entry.id}'"

    def _read(self, entry: SampleEntry, member: Member) -> bytes:
        data = os.pread(self._file(entry.shard), member.size, member.offset)
        if len(data) != member.size:
            raise BenchError(f"{self._name(entry)}: lies behind the end of the file{REPAIR}")
        if hashlib.sha256(data).hexdigest() != member.sha256:
            raise BenchError(f"{self._name(entry)}: has changed since it was written{REPAIR}")
        return data

    def _file(self, shard: int) -> int:
        """The descriptor of a shard. Processes may share it, because pread moves no position."""
        if shard not in self._files:
            path = self.folder / self.index.shards[shard].name
            try:
                self._files[shard] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise BenchError(f"{path}: is missing{REPAIR}") from None
        return self._files[shard]


def write(
    folder: Path,
    samples: Iterable[Sample],
    meta: dict[str, Any],
    part: str,
    samples_per_shard: int,
    *,
    with_masks: bool,
    split: str | None = None,
    split_id: str | None = None,
) -> None:
    """Packs samples into shards of one fixed number of samples.

    The folder appears as a whole or not at all. Where the same bytes are there already they stay, so that their
    readers are not disturbed; anything else in the place is replaced.

    Args:
        folder: where to; its parents are made.
        samples: in rising order of ids; one at a time is held in memory.
        meta: `Dataset.meta()`.
        part: `train`, `val` or `test`; names of shards begin with it.
        samples_per_shard: the last shard may have fewer.
        with_masks: whether masks go in, where there are any.
        split: name of the split whose labelled samples these are; each of them must have a mask.
        split_id: id of that split.

    Raises:
        BenchError: an image is larger than the canvas or differs in size from its mask, or a mask is missing.
        OSError: the disk is full, or the folder cannot be written to.
    """
    with exclusive(folder), _building(folder) as building:
        chosen = _checked(samples, tuple(meta["canvas"]), with_masks, split)
        shards, entries = _pack(building, chosen, part, samples_per_shard)
        content = {
            "format": 1,
            "dataset": meta,
            "part": part,
            "split": split,
            "split_id": split_id,
            "digest": hashlib.sha256("".join(shard["members_sha256"] for shard in shards).encode()).hexdigest(),
            "shards": shards,
            "samples": entries,
        }
        write_atomically(building / index.NAME, index.render(content))


def verify(folder: Path) -> Shards:
    """Reads all shards of a folder and compares every byte with what its index promises.

    Raises:
        BenchError: something is missing or differs; names the shard and, where it lies in one, the sample.
    """
    shards = Shards(folder)
    for number, shard in enumerate(shards.index.shards):
        path = folder / shard.name
        if not path.is_file():
            raise BenchError(f"{path}: is missing{REPAIR}")
        damage = find_damage(path, [entry for entry in shards.index.samples if entry.shard == number])
        if damage:
            raise BenchError(f"{path}: {damage}{REPAIR}")
    return shards


def _of_size(entry: SampleEntry, pixels: Pixels, name: str) -> Pixels:
    height, width = pixels.shape[:2]
    if (height, width) != (entry.height, entry.width):
        raise BenchError(f"{name}: {height}×{width} pixels, expected {entry.height}×{entry.width}{REPAIR}")
    return pixels


def _pack(
    folder: Path, samples: Iterator[Sample], part: str, samples_per_shard: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Writes the tars of a folder.

    Returns:
        What the index says of the shards, and of the samples.
    """
    shards: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    with ThreadPoolExecutor(1) as disk:  # waits for the disk while the next tar is packed
        synced = []
        while (first := next(samples, None)) is not None:
            path = folder / f"{part}-{len(shards):06d}.tar"
            with Tar(path) as tar:
                for sample in itertools.chain([first], itertools.islice(samples, samples_per_shard - 1)):
                    entries.append(tar.add(sample, len(shards)))
            shards.append(tar.summary())
            synced.append(disk.submit(_sync, path))
    for task in synced:
        task.result()
    return shards, entries


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        sync(file)


def _checked(
    samples: Iterable[Sample], canvas: tuple[int, ...], with_masks: bool, split: str | None
) -> Iterator[Sample]:
    """The samples as they go into the tars, each after its check."""
    last = ""
    for sample in samples:
        assert sample.id > last, f"'{sample.id}' comes after '{last}'"
        last = sample.id
        height, width = size_of(sample.image, f"sample '{sample.id}'")
        if height > canvas[0] or width > canvas[1]:
            raise BenchError(
                f"sample '{sample.id}': {height}×{width} pixels, more than the canvas {canvas[0]}×{canvas[1]}"
            )
        if split is not None and sample.mask is None:
            raise BenchError(f"sample '{sample.id}': split '{split}' counts it as labelled, but it has no mask")
        if not with_masks:
            yield dataclasses.replace(sample, mask=None)
            continue
        if sample.mask is not None and (found := size_of(sample.mask, f"mask of sample '{sample.id}'")) != (
            height,
            width,
        ):
            raise BenchError(
                f"sample '{sample.id}': the image has {height}×{width} pixels, its mask {found[0]}×{found[1]}"
            )
        yield sample


@contextmanager
def _building(folder: Path) -> Iterator[Path]:
    """A folder to fill beside the one that is wanted, which it then becomes. Needs the lock of the latter."""
    building, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    try:
        for rest in (building, old):
            shutil.rmtree(rest, ignore_errors=True)
        building.mkdir()
        yield building
        if not _same(building, folder):
            if folder.exists():
                folder.replace(old)
            building.replace(folder)
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise
    finally:
        for rest in (building, old):
            shutil.rmtree(rest, ignore_errors=True)


def _same(building: Path, folder: Path) -> bool:
    """Whether the folder already holds, undamaged, what has just been built."""
    try:
        return verify(folder).index == index.read(building / index.NAME)
    except (BenchError, OSError):
        return False
