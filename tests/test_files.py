"""Files that are there as a whole or not at all, and what is left by processes that were killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from running_data import ended

from rc2l_bench import files
from rc2l_bench.files import (
    link_equal_files,
    naming,
    replace_folder,
    set_aside,
    sweep,
    temporary_name,
    write_atomically,
)

KILLED = """
import os, signal, sys
from pathlib import Path
from rc2l_bench import files

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

files.sync = die
if sys.argv[1] == "file":
    files.write_atomically(Path("x"), b"new")
else:
    files.replace_folder(Path("x"), lambda folder: (folder / "a").write_text("new"))
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def kill(folder: Path, what: str) -> None:
    """Lets a process write and be killed before it is through."""
    done = subprocess.run([sys.executable, "-c", KILLED, what], cwd=folder)
    assert done.returncode == -signal.SIGKILL


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_is_written_with_the_folders_that_it_needs(tmp_path):
    write_atomically(tmp_path / "a/b/c", b"x")
    assert (tmp_path / "a/b/c").read_bytes() == b"x"
    assert names(tmp_path / "a/b") == ["c"]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_a_killed_process_left_is_swept_by_the_next_one(tmp_path, what):
    kill(tmp_path, what)
    (rest,) = names(tmp_path)
    assert re.fullmatch(r"\.x\.[0-9a-f]{8}-\d+-\d+\.tmp", rest)
    write_atomically(tmp_path / "another", b"")
    assert names(tmp_path) == ["another"]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_killed_process_leaves_what_was_there(tmp_path, what):
    if what == "file":
        (tmp_path / "x").write_bytes(b"old")
    else:
        (tmp_path / "x").mkdir()
    kill(tmp_path, what)
    assert (tmp_path / "x").read_bytes() == b"old" if what == "file" else (tmp_path / "x").is_dir()


def test_what_a_living_process_writes_stays(tmp_path):
    mine = temporary_name(tmp_path / "x")
    mine.touch()
    sweep(tmp_path)
    assert mine.exists()


@pytest.mark.parametrize("name", [".x.00000000-1-0.tmp", ".x.tmp", "x.tmp", ".x.123.tmp", "notes.txt"])
def test_what_is_not_known_to_be_left_over_stays(tmp_path, name):
    """Another machine's, or the user's."""
    (tmp_path / name).touch()
    sweep(tmp_path)
    assert names(tmp_path) == [name]


def test_a_link_is_removed_and_not_what_it_points_to(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine").touch()
    link = tmp_path / f".x.{files.host_id()}-{ended()}-0.tmp"
    link.symlink_to(tmp_path / "data")
    sweep(tmp_path)
    assert names(tmp_path) == ["data"]
    assert names(tmp_path / "data") == ["mine"]


def test_an_earlier_folder_is_replaced_as_a_whole(tmp_path):
    replace_folder(tmp_path / "x", lambda folder: (folder / "a").touch())
    replace_folder(tmp_path / "x", lambda folder: (folder / "b").touch())
    assert names(tmp_path / "x") == ["b"]
    assert names(tmp_path) == [".rc2l-bench", "x"]


def test_a_folder_that_somebody_else_made_keeps_its_files(tmp_path, capsys):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/mine.pdf").touch()
    replace_folder(tmp_path / "figures", lambda folder: (folder / "a.svg").touch())
    assert names(tmp_path / "figures") == ["a.svg"]
    assert names(tmp_path / "figures.wrong") == ["mine.pdf"]
    assert "figures: not made by rc2l-bench: kept as figures.wrong" in capsys.readouterr().err


def test_an_empty_folder_is_replaced(tmp_path):
    (tmp_path / "x").mkdir()
    replace_folder(tmp_path / "x", lambda folder: (folder / "a").touch())
    assert names(tmp_path) == [".rc2l-bench", "x"]


def test_a_sign_inside_tells_whose_a_folder_is(tmp_path):
    for number in (1, 2):
        replace_folder(tmp_path / "x", lambda folder, n=number: (folder / "run.json").write_text(str(n)), "run.json")
    assert (tmp_path / "x/run.json").read_text() == "2"
    assert names(tmp_path) == ["x"]
    (tmp_path / "x/run.json").unlink()
    (tmp_path / "x/mine").touch()
    replace_folder(tmp_path / "x", lambda folder: (folder / "run.json").touch(), "run.json")
    assert names(tmp_path) == ["x", "x.wrong"]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_full_disk_is_told_with_the_name_and_leaves_what_was_there(tmp_path, monkeypatch, what):
    target = tmp_path / "x"
    replace_folder(target, lambda folder: (folder / "a").touch()) if what == "folder" else target.write_text("old")
    before = names(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    write = {
        "file": lambda: write_atomically(target, b"new"),
        "folder": lambda: replace_folder(target, lambda folder: (folder / "b").touch()),
    }
    with pytest.raises(OSError, match="No space left") as caught:
        write[what]()
    assert caught.value.filename == str(target)
    assert names(tmp_path) == before
    assert target.read_text() == "old" if what == "file" else names(target) == ["a"]


def test_an_error_that_names_a_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, naming(tmp_path):
        (tmp_path / "nowhere").read_text()
    assert caught.value.filename == str(tmp_path / "nowhere")


def test_what_is_set_aside_gets_a_free_name(tmp_path):
    for number in range(3):
        (tmp_path / "x").write_text(str(number))
        set_aside(tmp_path / "x", "wrong")
    assert names(tmp_path) == ["x.wrong", "x.wrong1", "x.wrong2"]


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, index in ((one, b"1"), (other, b"2")):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep/000000.tar").write_bytes(b"x" * 5000)
        (folder / "index.json").write_bytes(index)
    (one / "only").write_bytes(b"")
    return one, other


def test_equal_files_share_their_room_and_others_stay(folders):
    one, other = folders
    link_equal_files(one, "*")
    assert (one / "deep/000000.tar").samefile(other / "deep/000000.tar")
    assert [(folder / "index.json").read_bytes() for folder in folders] == [b"1", b"2"]
    assert sorted(path.name for path in one.rglob("*")) == ["000000.tar", "deep", "index.json", "only"]


def test_folders_of_other_names_keep_their_room(folders):
    link_equal_files(folders[0], "seed*")
    assert not (folders[0] / "deep/000000.tar").samefile(folders[1] / "deep/000000.tar")


def test_what_replaces_a_linked_file_leaves_its_twin_alone(folders):
    one, other = folders
    link_equal_files(one, "*")
    (one / "new").write_bytes(b"y")
    (one / "new").replace(one / "deep/000000.tar")
    assert (other / "deep/000000.tar").read_bytes() == b"x" * 5000


def test_where_there_are_no_hard_links_nothing_changes(folders, monkeypatch):
    def refuse(*_):
        raise OSError("not here")

    monkeypatch.setattr(os, "link", refuse)
    link_equal_files(folders[0], "*")
    assert not (folders[0] / "deep/000000.tar").samefile(folders[1] / "deep/000000.tar")
    assert sorted(path.name for path in folders[0].rglob("*")) == ["000000.tar", "deep", "index.json", "only"]
