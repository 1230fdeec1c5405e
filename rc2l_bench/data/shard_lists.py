"""Lists of shards in the forms that other tools read, so that shards made here serve elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rc2l_bench.data.addresses import is_remote
from rc2l_bench.data.shards import Shards
from rc2l_bench.errors import UsageError
from rc2l_bench.files import write_atomically

WIDS, SIZES = "wids.json", "sizes.json"


def export_lists(shards: Shards, out: Path, base: str | None) -> list[Path]:
    """Write `wids.json`, which wids' ShardListDataset reads, and `sizes.json`, samples by name of a tar.

    Args:
        shards: to list; nothing is copied.
        out: folder for both, made where it is missing.
        base: folder or address where the tars will be read from; None = where they are now.

    Returns:
        The files.

    Raises:
        UsageError: these are loose files or there is no shard, so there is nothing to list.
    """
    listed = shards.index.shards
    if not listed:
        what = "are loose files" if shards.index.layout == "files" else "hold no sample"
        raise UsageError(f"{shards.folder}: these {what}, there is no tar to list")
    where = base or shards.index.base or shards.folder.resolve().as_posix()
    content: dict[str, Any] = {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": f"{shards.index.dataset.name}-{shards.index.part}",
        "shardlist": [
            {"url": _place(where, shard.name), "nsamples": shard.samples, "filesize": shard.size} for shard in listed
        ],
    }
    files = {WIDS: content, SIZES: {shard.name: shard.samples for shard in listed}}
    for name, data in files.items():
        write_atomically(out / name, (json.dumps(data, indent=1) + "\n").encode())
    return [out / name for name in files]


def _place(base: str, name: str) -> str:
    folder, mark, query = base.partition("?") if is_remote(base) else (base, "", "")
    return f"{folder.rstrip('/')}/{name}{mark}{query}"
