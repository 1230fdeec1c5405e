"""The extra images of a data set: sets of shards or files that stay where they are, as `pool_index` has listed them."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from rc2l_bench.data.datasets.pool_config import StreamConfig
from rc2l_bench.data.shards import Shards
from rc2l_bench.readers import DamagedFileError, read_bytes
from rc2l_bench.schema import Model, first_fault
from rc2l_bench.seals import unseal

SUMMARY = "pool.json"
"""In the folder of a data set's extra images."""
REPAIR = "delete the folder and run the stages again"


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


def read_summary(folder: Path) -> PoolSummary:
    """Read what `index_sets` wrote; nothing where a data set has no extra images.

    Raises:
        DamagedFileError: it has changed, or is of another version.
    """
    path = folder / SUMMARY
    if not path.is_file():
        return PoolSummary(sets=[], stream=None)
    content = unseal(read_bytes(path), path, REPAIR)
    try:
        return PoolSummary.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise DamagedFileError(f"{path}: no summary of a pool ({first_fault(error)}): {REPAIR}") from None


def open_sets(folder: Path) -> list[Shards]:
    """Open the extra images, one set for each entry of `pool`; see `Shards`."""
    return [Shards(folder / one.folder) for one in read_summary(folder).sets]
