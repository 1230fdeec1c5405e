from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from rc2l_bench.data import storage
from rc2l_bench.data.storage import Disk, Piece
from rc2l_bench.errors import BenchError

CONTENT = b"0123456789"


def piece(offset: int, size: int, name: str = "a.tar") -> Piece:
    return Piece(name, offset, size, sha256(CONTENT[offset : offset + size]).digest(), "image 7")


@pytest.fixture
def disk(tmp_path) -> Disk:
    (tmp_path / "a.tar").write_bytes(CONTENT)
    return Disk(tmp_path)


def test_pieces_come_in_the_order_in_which_they_were_asked_for(disk):
    assert disk.read([piece(4, 3), piece(0, 2), piece(4, 3)]) == [b"456", b"01", b"456"]


def test_a_changed_byte_is_told_with_file_and_owner(disk):
    (disk.folder / "a.tar").write_bytes(b"0123x56789")
    with pytest.raises(BenchError, match=r"a\.tar: image 7: has changed"):
        disk.read([piece(4, 3)])


def test_a_file_that_was_cut_off_is_told(disk):
    (disk.folder / "a.tar").write_bytes(CONTENT[:5])
    with pytest.raises(BenchError, match=r"a\.tar: image 7: lies behind the end"):
        disk.read([piece(4, 3)])


def test_a_file_that_is_gone_is_told(disk):
    with pytest.raises(BenchError, match=r"b\.tar: is missing"):
        disk.read([piece(0, 1, "b.tar")])


def test_no_more_files_are_open_than_allowed_and_all_are_read(disk, monkeypatch):
    monkeypatch.setattr(storage, "MOST_OPEN", 2)
    names = [f"{i}.tar" for i in range(5)]
    for name in names:
        (disk.folder / name).write_bytes(CONTENT)
    opened = open_files(disk.folder)
    assert disk.read([piece(2, 2, name) for name in names * 2]) == [b"23"] * 10
    assert open_files(disk.folder) - opened == 2


def test_reading_takes_up_again_what_was_closed(disk):
    before = open_files(disk.folder)
    disk.read([piece(0, 1)])
    disk.close()
    assert open_files(disk.folder) == before
    assert disk.read([piece(0, 1)]) == [b"0"]


def open_files(folder: Path) -> int:
    links = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
    return sum(path.parent == folder for path in links)
