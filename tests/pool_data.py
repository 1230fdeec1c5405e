"""Tars far away, and the extra images of a data set that are listed from them, for tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from shards_data import META
from tar_data import image_tar

from rc2l_bench.data import download, remote
from rc2l_bench.data.pool_index import index_sets
from rc2l_bench.data.pool_sets import open_sets
from rc2l_bench.data.shards import Shards

EXTRA = Path("data/shards/tiny/extra")


def listed(*places: str, room: int = 0) -> list[Shards]:
    index_sets(places, None, META, EXTRA, room)
    return open_sets(EXTRA)


def images(shards: Shards) -> list[bytes]:
    return [encoded.image for encoded in shards.read(range(len(shards)))]


def write_far(root: Path, patch: pytest.MonkeyPatch) -> Path:
    """Nine images in two tars of the folder `far`; whoever waits for a server waits for a moment."""
    patch.chdir(root)
    patch.setattr(remote, "PAUSE", 0.01)
    patch.setattr(download, "PAUSE", 0.01)
    image_tar(root / "far/t-0.tar", range(4))
    image_tar(root / "far/t-1.tar", range(4, 9))
    return root
