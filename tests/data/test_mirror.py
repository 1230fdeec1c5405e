from __future__ import annotations

import os
from pathlib import Path

import pytest
from shards_data import make_shards
from web_data import FAULTS, FolderServer, serve_folder

from rc2l_bench.data import download, mirror, remote
from rc2l_bench.data.index import Index
from rc2l_bench.data.mirror import copy_file
from rc2l_bench.data.remote import copies_of
from rc2l_bench.data.shards import Shards
from rc2l_bench.errors import BenchError

ROOM = 1 << 30


@pytest.fixture
def far(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_shards(tmp_path / "far", 10).folder


@pytest.fixture
def web(far, monkeypatch) -> FolderServer:
    monkeypatch.setattr(download, "TIMEOUT", (2.0, 0.3))
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    with serve_folder(far) as server:
        yield server


def index_of(folder: Path, base: str) -> Index:
    return Shards(folder).index.model_copy(update={"base": base})


def tars(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


def test_all_shards_are_copied_once(far, web):
    index = index_of(far, f"{web.url}/")
    assert mirror.mirror(index, ROOM)
    assert tars(copies_of(index.base)) == tars(far)
    asked = len(web.asked)
    assert mirror.mirror(index, ROOM)
    assert len(web.asked) == asked == 3


def test_a_server_that_misbehaves_is_copied_all_the_same(far, web):
    web.faults, web.every = tuple(fault for fault in FAULTS if fault != "flips"), 2
    index = index_of(far, f"{web.url}/")
    assert mirror.mirror(index, ROOM)
    assert tars(copies_of(index.base)) == tars(far)
    assert web.failed


def test_other_schemes_are_copied_by_fsspec_and_continued(far):
    index = index_of(far, f"file://{far}/")
    begun = copies_of(index.base) / "train-000000.tar.part"
    begun.parent.mkdir(parents=True)
    begun.write_bytes((far / "train-000000.tar").read_bytes()[:700])
    assert mirror.mirror(index, ROOM)
    assert tars(copies_of(index.base)) == tars(far)
    with pytest.raises(BenchError, match=r"file:///nowhere/x\.tar: FileNotFoundError"):
        copy_file("file:///nowhere/x.tar", far / "x.tar", None)


def test_what_does_not_fit_is_not_copied(far, web):
    index = index_of(far, f"{web.url}/")
    total = sum(shard.size for shard in index.shards)
    assert not mirror.mirror(index, total - 1)
    assert web.asked == []
    assert mirror.mirror(index, total)


def test_copies_that_were_not_used_for_the_longest_time_make_room(far, web, capsys):
    index = index_of(far, f"{web.url}/")
    total = sum(shard.size for shard in index.shards)
    for name, age in (("new", 10), ("old", 1000)):
        (remote.COPIES / name).mkdir(parents=True)
        (remote.COPIES / name / "x.tar").write_bytes(bytes(total))
        now = (remote.COPIES / name / "x.tar").stat().st_mtime
        os.utime(remote.COPIES / name / "x.tar", (now - age, now - age))
    assert mirror.mirror(index, 2 * total)
    assert sorted(path.name for path in remote.COPIES.iterdir()) == sorted(["new", copies_of(index.base).name])
    assert "old: removed to make room" in capsys.readouterr().err


def test_what_cannot_be_had_is_said_and_not_copied(far, web, capsys):
    (far / "train-000001.tar").unlink()
    assert not mirror.mirror(index_of(far, f"{web.url}/?secret"), ROOM)
    said = capsys.readouterr().err.replace("\n", " ")
    assert "train-000001.tar: answers 404; not copied: its images are read from there, one by one" in said
    assert "secret" not in said


def test_sets_of_one_training_do_not_push_one_another_out(far, web):
    make_shards(far / "second", 10)
    first, second = index_of(far, f"{web.url}/"), index_of(far / "second", f"{web.url}/second/")
    room = sum(shard.size for shard in first.shards) + 1
    for _ in range(2):
        mirror.mirror_all([first, second, Shards(far).index], room)
        assert tars(copies_of(first.base)) == tars(far)
        assert not tars(copies_of(second.base))
