"""The extra images of a data set: lists by reference, made once, continued, taken over; masks never come along."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pool_data import EXTRA, images, listed, write_far
from shards_data import META, make_shards
from web_data import FolderServer, serve_folder

from rc2l_bench.data.datasets.pool_config import StreamConfig
from rc2l_bench.data.index import render
from rc2l_bench.data.pool_index import index_sets
from rc2l_bench.data.pool_sets import read_summary
from rc2l_bench.errors import BenchError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    return write_far(tmp_path, monkeypatch)


@pytest.fixture
def web(here) -> Iterator[FolderServer]:
    with serve_folder(here / "far") as server:
        yield server


@pytest.mark.parametrize("where", ["near", "far"])
def test_shards_with_an_index_are_taken_over_without_their_masks(here, web, where):
    own = make_shards(here / "far/packed", 6)
    assert own.labelled
    (taken,) = listed("far/packed" if where == "near" else f"{web.url}/packed/")
    assert not taken.index.samples.with_mask
    assert all(encoded.mask is None for encoded in taken.read(range(6)))
    assert (taken.digest, images(taken)) == (own.digest, images(own))
    assert not any(path.endswith(".tar") and span is None for path, span in web.asked)


@pytest.mark.parametrize(("change", "reason"), [
    ({"base": "https://elsewhere.org/${POOL_TOKEN}/"}, "names environment variables"),
    ({"shards": [{"name": "${POOL_TOKEN}.tar"}]}, "names environment variables"),
    ({"shards": [{"name": "a/../../outside.tar"}]}, "leads out of its folder"),
    ({"shards": [{"name": "/outside.tar"}]}, "shards.0.name"),
])  # fmt: skip
def test_an_index_of_somebody_else_sends_no_secret_and_writes_nowhere_else(here, change, reason):
    make_shards(here / "far/packed", 6, per_shard=6)
    path = here / "far/packed/index.json"
    content = json.loads(path.read_text())
    content.pop("sha256")
    shards = [shard | more for shard, more in zip(content["shards"], change.get("shards", [{}]), strict=True)]
    path.write_bytes(render(content | change | {"shards": shards}))
    with pytest.raises(BenchError, match=reason):
        listed("far/packed")


def test_a_folder_without_images_is_told(here):
    (here / "photos").mkdir()
    (here / "photos/notes.txt").write_text("words")
    with pytest.raises(BenchError, match=r"pool: photos: there is no image .* left out: 1 other files"):
        listed("photos")


def test_most_data_sets_have_none_and_a_stream_is_written_down(here):
    assert listed() == []
    config = StreamConfig(stream=["far/t-*.tar"], shuffle=5)
    index_sets([], config, META, EXTRA, 0)
    assert read_summary(EXTRA).stream == config
    shutil.rmtree(EXTRA)
    assert (read_summary(EXTRA).sets, read_summary(EXTRA).stream) == ([], None)
