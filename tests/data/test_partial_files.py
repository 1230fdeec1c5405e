"""Whose an unfinished file is, and what becomes of it."""

from __future__ import annotations

import pytest

from rc2l_bench.data.partial_files import PartialFile
from rc2l_bench.files import set_aside


@pytest.fixture
def part(tmp_path) -> PartialFile:
    return PartialFile(tmp_path / "a.tar")


def names(part: PartialFile) -> set[str]:
    return {path.name for path in part.target.parent.iterdir()}


def test_what_this_program_began_is_discarded_for_good(part):
    part.begin()
    part.path.write_bytes(b"ours")
    again = PartialFile(part.target)
    again.discard("wrong")
    assert (again.size, names(part)) == (0, {"a.tar.part", "a.tar.part.own"})


def test_what_somebody_else_put_there_is_kept_as_it_was_found(part):
    part.path.write_bytes(b"theirs")
    again = PartialFile(part.target)
    again.begin()
    with again.path.open("ab") as file:
        file.write(b" and ours")
    again.discard("wrong")
    assert (part.target.parent / "a.tar.part.wrong").read_bytes() == b"theirs"
    assert again.size == 0


def test_a_mark_is_not_believed_of_another_file_of_the_same_name(part):
    part.begin()
    theirs = part.path.with_name("other")
    theirs.write_bytes(b"theirs")
    theirs.replace(part.path)
    PartialFile(part.target).discard("wrong")
    assert (part.target.parent / "a.tar.part.wrong").read_bytes() == b"theirs"


def test_a_finished_file_leaves_nothing_beside_it(part):
    part.begin()
    part.path.write_bytes(b"whole")
    part.finish()
    assert names(part) == {"a.tar"}


def test_a_file_of_which_nothing_came_is_not_left(part):
    part.begin()
    part.leave()
    assert names(part) == set()


def test_names_of_what_is_set_aside_are_counted_on(tmp_path):
    for text in ("first", "second", "third"):
        (tmp_path / "a").write_text(text)
        set_aside(tmp_path / "a", "wrong")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.wrong": "first", "a.wrong1": "second", "a.wrong2": "third"
    }  # fmt: skip
