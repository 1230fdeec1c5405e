"""The extra images of a data set, by reference: for each entry of its `pool` a list of what lies where, and no copy.

Lists are kept in `.rc2l/pools` by what they list, because making one may read all images; the folder of a data set gets
links to them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rc2l_bench.data import index, sample_table
from rc2l_bench.data.datasets.pool_config import StreamConfig
from rc2l_bench.data.index import Index
from rc2l_bench.data.pool_lists import make_list
from rc2l_bench.data.pool_sets import SUMMARY, PoolSet, PoolSummary
from rc2l_bench.data.pool_sources import PoolSource, resolve
from rc2l_bench.files import exclusive, replace_folder, say
from rc2l_bench.seals import seal

LISTS = Path(".rc2l/pools")
"""Lists of images by the key of their source."""


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
