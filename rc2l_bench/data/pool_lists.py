"""Making the list of the images of a source: once, and going on where an interrupted one stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rc2l_bench.data import index, sample_table
from rc2l_bench.data.addresses import is_remote, join
from rc2l_bench.data.index import Index, Shard
from rc2l_bench.data.mirror import copy_file, size_of_copies
from rc2l_bench.data.packing import write_index
from rc2l_bench.data.pool_sources import PoolSource
from rc2l_bench.data.remote import copies_of
from rc2l_bench.data.sample_table import Entry, SampleTable, Summary, TableWriter
from rc2l_bench.data.scan import Left, scan_folder, scan_tar
from rc2l_bench.errors import BenchError
from rc2l_bench.files import say, write_atomically
from rc2l_bench.readers import read_bytes, read_json

_NEW, _FAR_INDEX, _FAR_TABLE = "new.arrow", "far.json", "far.arrow"
_SPARE = (_NEW, _FAR_INDEX, _FAR_TABLE)
"""Files that are of no use once the list is there."""


def make_list(source: PoolSource, folder: Path, room: int) -> None:
    """Write index.json and the table of samples of a source into a folder.

    Args:
        source: what to list.
        folder: is there; what an interrupted call left in it is used.
        room: bytes of copies of files far away that may be kept.

    Raises:
        BenchError: something is damaged or out of reach, or there is no image.
    """
    if source.kind == "files":
        _list_files(source, folder)
    elif source.kind == "shards":
        _adopt(_bring_index(source, folder), source, folder)
    elif (found := _index_beside(source, folder)) is not None:
        _adopt(found, source, folder)
    else:
        _list_tars(source, folder, room)
    for name in _SPARE:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "parts", ignore_errors=True)


def _list_files(source: PoolSource, folder: Path) -> None:
    left, digest = Left(), hashlib.sha256()
    with TableWriter(folder / _NEW) as table:
        for entry in scan_folder(Path(source.base), left):
            digest.update(f"{entry.image.sha256.hex()}  {entry.id}\n".encode())
            table.add(entry)
    _finish(source, folder, source.base, "files", [], table.summary(), digest.hexdigest(), left.describe())


def _list_tars(source: PoolSource, folder: Path, room: int) -> None:
    left, shards = Left(), []
    with TableWriter(folder / _NEW) as table:
        for number, name in enumerate(source.names):
            shard, entries, more = _list_tar(source, folder / "parts", number, name, room)
            left.update(more)
            shards.append(shard)
            for entry in entries:
                table.add(entry)
            say(f"pool: {name}: {shard.samples:,} images ({number + 1} of {len(source.names)})")
    _finish(source, folder, source.base, "tars", shards, table.summary(), None, left.describe())


def _list_tar(
    source: PoolSource, parts: Path, number: int, name: str, room: int
) -> tuple[Shard, Iterator[Entry], Left]:
    """The images of one tar, from a run before this one where it came so far."""
    done, rows = parts / f"{number:06d}.json", parts / f"{number:06d}.arrow"
    if not done.is_file():
        parts.mkdir(exist_ok=True)
        left = Left()
        path = _bring(source, name)
        shard, entries = scan_tar(path, name, number, left)
        with TableWriter(rows) as table:
            for entry in entries:
                table.add(entry)
        write_atomically(done, json.dumps({"shard": shard.model_dump(), "left": asdict(left)}).encode())
        if is_remote(source.base) and size_of_copies(source.base) > room:
            path.unlink()  # there is no room for it beside those before it
    said = read_json(done)
    shard = Shard.model_validate(said["shard"])
    left = Left(Counter(said["left"]["counts"]), said["left"]["examples"])
    table_of = SampleTable(rows, shard.samples)
    return shard, table_of.entries(range(shard.samples)), left


def _bring(source: PoolSource, name: str) -> Path:
    """A tar on the disk; from far away it is copied, and may then serve the training, too."""
    if not is_remote(source.base):
        return Path(source.base) / name
    target = copies_of(source.base) / name
    copy_file(join(source.base, name), target, None)
    return target


def _bring_index(source: PoolSource, folder: Path) -> Index:
    """The index that lies where the shards do; its table is copied into the folder.

    Raises:
        BenchError: there is none, or it is damaged.
    """
    far_index, far_table = folder / _FAR_INDEX, folder / _FAR_TABLE
    for name, target in ((index.NAME, far_index), (sample_table.NAME, far_table)):
        target.unlink(missing_ok=True)
        if is_remote(source.base):
            copy_file(join(source.base, name), target, None)
        else:
            shutil.copyfile(Path(source.base) / name, target)
    found = index.parse(read_bytes(far_index, index.MOST_BYTES), f"{source.text}: {index.NAME}")
    index.check_table(far_table, found)
    return found


def _index_beside(source: PoolSource, folder: Path) -> Index | None:
    """The index beside tars; None where there is none of ours, or it lists other tars."""
    try:
        found = _bring_index(source, folder)
    except (BenchError, OSError):
        return None
    return found if [shard.name for shard in found.shards] == list(source.names) else None


def _adopt(found: Index, source: PoolSource, folder: Path) -> None:
    """Take over an index, without the masks: nothing that comes from a pool is a label."""
    _refuse_variables(source, [found.base or "", *(shard.name for shard in found.shards)])
    table = SampleTable(folder / _FAR_TABLE, found.samples.count)
    with TableWriter(folder / _NEW) as writer:
        for entry in table.entries(range(len(table))):
            if found.layout == "files":  # ids are names of files there
                _refuse_variables(source, [entry.id])
            writer.add(replace(entry, mask=None))
    where = source.base if found.base is None else found.base
    _finish(source, folder, where, found.layout, found.shards, writer.summary(), found.digest, "")


def _refuse_variables(source: PoolSource, names: Iterable[str]) -> None:
    """Refuse `${NAME}` in somebody else's index: only the user's own words may send what the environment holds."""
    if any("${" in name for name in names):
        raise BenchError(f"pool: {source.text}: its index names environment variables: it is not used")


def _finish(
    source: PoolSource,
    folder: Path,
    base: str,
    layout: str,
    shards: list[Shard],
    summary: Summary,
    digest: str | None,
    told: str,
) -> None:
    if not summary.count:
        raise BenchError(f"pool: {source.text}: there is no image (jpg, jpeg, png) in it{told and '; '}{told}")
    (folder / _NEW).replace(folder / sample_table.NAME)
    nobody = {"name": "pool", "classes": ["none"], "palette": [], "canvas": list(summary.largest)}
    origin: dict[str, Any] = {"dataset": nobody, "part": "train", "split": None, "split_id": None}
    write_index(folder, origin | {"base": base, "layout": layout}, shards, summary, digest)
    say(f"pool: {source.text}: {summary.count:,} images{told and '; '}{told}")
