"""The same questions to a folder and to a real server of the S3 protocol."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from rc2l_bench.files import temporary_name
from rc2l_bench.run import far_store
from rc2l_bench.run.far_store import FarStore, FolderStore
from rc2l_bench.run.object_store import FsspecStore


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path) -> FarStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    return FsspecStore(request.getfixturevalue("s3"))


def test_a_folder_that_is_not_there_is_empty(store):
    assert store.list("none") == {}


def test_what_is_written_is_listed_and_read(store):
    store.write("written/a", b"one")
    store.write("written/a", b"three")
    assert {name: entry.size for name, entry in store.list("written").items()} == {"a": 5}
    assert store.read("written/a") == b"three"


def test_a_file_goes_there_and_back(store, tmp_path):
    (tmp_path / "here").write_bytes(os.urandom(1 << 18))
    store.put(tmp_path / "here", "files/big")
    store.fetch("files/big", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "here").read_bytes()


def test_what_is_not_there_cannot_be_read_or_fetched(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        store.read("none/a")
    with pytest.raises(FileNotFoundError):
        store.fetch("none/a", tmp_path / "a")


def test_removing_what_is_not_there_is_fine(store):
    store.write("removed/a", b"x")
    store.remove("removed/a")
    store.remove("removed/a")
    assert store.list("removed") == {}


def test_of_many_that_create_one_file_one_succeeds(store):
    won: list[int] = []

    def create(number: int) -> None:
        if store.create("race/a", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("race/a") == b"%d" % won[0]
    assert list(store.list("race")) == ["a"]


def test_ages_count_by_the_clock_of_the_place(store, monkeypatch):
    store.write("clock/a", b"x")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    age = store.now("clock") - store.list("clock")["a"].changed
    assert 0 <= age < 60
    assert list(store.list("clock")) == ["a"]


def test_a_file_system_without_hard_links_has_one_winner_too(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    folder = FolderStore(tmp_path)
    assert [folder.create("f/a", text) for text in (b"one", b"two")] == [True, False]
    assert folder.read("f/a") == b"one"


def test_half_files_of_other_machines_go_when_they_are_old(tmp_path, monkeypatch):
    folder = FolderStore(tmp_path)
    folder.write("f/a", b"x")
    with monkeypatch.context() as patch:
        patch.setattr("rc2l_bench.files.host_id", lambda: "0" * 8)
        old, young = (temporary_name(tmp_path / "f/b") for _ in range(2))
    for part in (old, young):
        part.write_bytes(b"half")
    long_ago = time.time() - 2 * far_store.ABANDONED
    os.utime(old, (long_ago, long_ago))
    folder.put(tmp_path / "f/a", "f/c")
    assert (old.exists(), young.exists()) == (False, True)
    assert sorted(folder.list("f")) == ["a", "c"]


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path):
    (tmp_path / "f").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="f") as caught:
        FolderStore(tmp_path).put(Path(__file__), "f/a")
    assert caught.value.filename
