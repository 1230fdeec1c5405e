"""Samples to WebDataset tars: the same bytes however often they are built."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rc2l_bench.data import index, sample_table
from rc2l_bench.data.datasets.base import Sample
from rc2l_bench.data.decode import size_of
from rc2l_bench.data.index import REPAIR, Shard
from rc2l_bench.data.sample_table import Summary, TableWriter
from rc2l_bench.data.shards import Shards
from rc2l_bench.data.tar_writer import Tar, find_damage
from rc2l_bench.errors import BenchError
from rc2l_bench.files import exclusive, is_ours, set_aside, sync, write_atomically
from rc2l_bench.sources import digest_file

_AT_ONCE = 64
"""Images that are verified together."""


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
    """Pack samples into shards of one fixed number of samples.

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
        with TableWriter(building / sample_table.NAME) as table:
            packed = _pack(building, chosen, part, samples_per_shard, table)
        origin = {"dataset": meta, "part": part, "split": split, "split_id": split_id, "base": None, "layout": "tars"}
        write_index(building, origin, packed, table.summary())


def write_index(
    folder: Path, origin: dict[str, Any], packed: list[Shard], samples: Summary, digest: str | None = None
) -> None:
    """Write index.json beside a list of samples that is there.

    Args:
        folder: where the list is.
        origin: the fields of `Index` up to `layout`, without `format`.
        packed: the shards.
        samples: what is in the list.
        digest: of the samples; None = that of the shards.
    """
    with (folder / sample_table.NAME).open("rb") as file:
        sync(file)
    sealed = {**samples.model_dump(mode="json"), "sha256": digest_file(folder / sample_table.NAME)}
    content = {
        "format": index.FORMAT,
        **origin,
        "digest": digest or index.digest_of(shard.members_sha256 for shard in packed),
        "samples": sealed,
        "shards": [shard.model_dump(mode="json") for shard in packed],
    }
    write_atomically(folder / index.NAME, index.render(content))


def verify(folder: Path) -> Shards:
    """Read all shards of a folder and compare every byte with what its index promises.

    Of a set that lies elsewhere the images are compared, and no byte between them: the tars are somebody else's.

    Raises:
        BenchError: something is missing or differs; names the shard and, where it lies in one, the sample.
    """
    shards, first = Shards(folder), 0
    if shards.index.base is not None:
        for start in range(0, len(shards), _AT_ONCE):
            shards.read(range(start, min(start + _AT_ONCE, len(shards))))
        return shards
    for shard in shards.index.shards:
        path = folder / shard.name
        if not path.is_file():
            raise BenchError(f"{path}: is missing: {REPAIR}")
        damage = find_damage(path, shards.table.entries(range(first, first + shard.samples)))
        if damage:
            raise BenchError(f"{path}: {damage}: {REPAIR}")
        first += shard.samples
    return shards


def _pack(
    folder: Path, samples: Iterator[Sample], part: str, samples_per_shard: int, table: TableWriter
) -> list[Shard]:
    """Write the tars of a folder, and what is in them to a table."""
    shards: list[Shard] = []
    with ThreadPoolExecutor(1) as disk:  # waits for the disk while the next tar is packed
        synced = []
        while (first := next(samples, None)) is not None:
            path = folder / f"{part}-{len(shards):06d}.tar"
            with Tar(path) as tar:
                for sample in itertools.chain([first], itertools.islice(samples, samples_per_shard - 1)):
                    table.add(tar.add(sample, len(shards)))
            shards.append(tar.summary())
            synced.append(disk.submit(_sync, path))
    for task in synced:
        task.result()
    return shards


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
            if folder.exists() and not is_ours(folder, index.NAME):
                set_aside(folder, "not made by rc2l-bench")
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
