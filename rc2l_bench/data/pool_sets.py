"""The extra images of a data set, by reference: for each entry of its `pool` a list of what lies where, and no copy.

Lists are kept in `.rc2l/pools` by what they list, because making one may read all images; the folder of a data set gets
links to them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rc2l_bench.data import index, sample_table
from rc2l_bench.data.datasets.pool_config import StreamConfig
from rc2l_bench.data.index import Index
from rc2l_bench.data.pool_lists import make_list
from rc2l_bench.data.pool_sources import PoolSource, resolve
from rc2l_bench.data.shards import Shards
from rc2l_bench.files import exclusive, replace_folder, say
from rc2l_bench.readers import read_bytes
from rc2l_bench.schema import Model
from rc2l_bench.seals import seal, unseal

LISTS = Path(".rc2l/pools")
"""Lists of images by the key of their source."""
SUMMARY = "pool.json"
"""In the folder of a data set's extra images."""


class PoolSet(Model):
    """One entry of `pool`."""

    folder: str
    source: str
    """As it was written down, without secrets."""
    images: int


class PoolSummary(Model):
    """pool.json: what the folder of extra images holds."""

    sets: list[PoolSet]
    stream: StreamConfig | None


def index_sets(texts: Sequence[str], stream: StreamConfig | None, meta: dict[str, Any], out: Path, room: int) -> None:
    """Make the folder of the extra images of a data set.

    Args:
        texts: entries of `pool`; none for most data sets.
        stream: tars that are streamed instead.
        meta: `Dataset.meta()`.
        out: folder; gets one folder with an index for each entry, and `pool.json`.
        room: bytes of copies of files far away that may be kept.

    Raises:
        UsageError: an entry stands for nothing.
        BenchError: a tar is damaged or out of reach, or there is no image in an entry.
    """
    listed = [(source, _list_of(source, room)) for source in map(resolve, texts)]

    def fill(folder: Path) -> None:
        sets = []
        for number, (source, found) in enumerate(listed):
            place = folder / f"{number:03d}"
            place.mkdir()
            _link(LISTS / source.key / sample_table.NAME, place / sample_table.NAME)
            content = found.model_dump(mode="json") | {"dataset": meta}
            (place / index.NAME).write_bytes(index.render(content))
            sets.append(PoolSet(folder=place.name, source=source.text, images=found.samples.count))
        summary = PoolSummary(sets=sets, stream=stream)
        (folder / SUMMARY).write_bytes(seal(summary.model_dump(mode="json"), indent=1))

    replace_folder(out, fill)


def read_summary(folder: Path) -> PoolSummary:
    """Read what `index_sets` wrote; nothing where a data set has no extra images.

    Raises:
        DamagedFileError: it has changed.
    """
    path = folder / SUMMARY
    if not path.is_file():
        return PoolSummary(sets=[], stream=None)
    content = unseal(read_bytes(path), path, "delete the folder and run the stages again")
    return PoolSummary.model_validate_json(json.dumps(content))


def open_sets(folder: Path) -> list[Shards]:
    """Open the extra images, one set for each entry of `pool`; see `Shards`."""
    return [Shards(folder / one.folder) for one in read_summary(folder).sets]


def _list_of(source: PoolSource, room: int) -> Index:
    """The index of a source, made unless it is there already."""
    folder = LISTS / source.key
    with exclusive(folder):
        if not (folder / index.NAME).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            say(f"pool: {source.text}: its images are listed, once")
            make_list(source, folder, room)
        return index.read(folder / index.NAME)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copyfile(source, target)
