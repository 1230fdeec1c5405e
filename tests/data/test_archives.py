"""Hostile and damaged archives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from rc2l_bench.data.archives import extract
from rc2l_bench.errors import BenchError

LIMIT = 1 << 20


def member(name: str, data: bytes = b"data", **changes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    info.size = len(data) if info.isreg() else 0
    return info, data


def pack(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


HOSTILE = {
    "parent": [member("../evil")],
    "parent further down": [member("a/../../evil")],
    "absolute": [member("/tmp/evil")],
    "drive": [member("C:evil")],
    "backslash": [member("..\\evil")],
    "the folder itself": [member(".")],
    "symbolic link": [member("evil", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
    "file through a symbolic link": [member("a", type=tarfile.SYMTYPE, linkname="/tmp"), member("a/evil")],
    "hard link": [member("evil", type=tarfile.LNKTYPE, linkname="good")],
    "character device": [member("evil", type=tarfile.CHRTYPE)],
    "block device": [member("evil", type=tarfile.BLKTYPE)],
    "pipe": [member("evil", type=tarfile.FIFOTYPE)],
    "the same file twice": [member("good"), member("good", b"evil")],
    "a file as a folder": [member("good/evil")],
    "too large": [member("evil", bytes(LIMIT))],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_is_refused_in_one_line_and_nothing_of_it_is_written(tmp_path, kind):
    archive = pack(tmp_path / "a.tar.gz", member("good"), *HOSTILE[kind])
    with pytest.raises(BenchError) as caught:
        extract(archive, tmp_path / "out", lambda name: name, LIMIT)
    assert str(archive) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert everything(tmp_path) == {"a.tar.gz", "out", "out/good"}
    assert (tmp_path / "out" / "good").read_bytes() == b"data"


def test_a_link_that_lies_in_the_target_already_is_not_followed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path)
    archive = pack(tmp_path / "a.tar.gz", member("a/evil"))
    with pytest.raises(BenchError, match="leads out of the folder"):
        extract(archive, tmp_path / "out", lambda name: name, LIMIT)
    assert not (tmp_path / "evil").exists()


def test_wanted_files_are_placed_and_the_others_are_left_out(tmp_path):
    folder = member("top/a", type=tarfile.DIRTYPE)
    members = (folder, member("top/a/x.png", b"x", mode=0o777), member("top/b", type=tarfile.SYMTYPE, linkname="a"))
    archive = pack(tmp_path / "a.tar.gz", *members)
    place = {"top/a/x.png": "a/x.png"}.get
    assert extract(archive, tmp_path / "out", place, LIMIT) == 1
    assert everything(tmp_path / "out") == {"a", "a/x.png"}
    assert not (tmp_path / "out" / "a" / "x.png").stat().st_mode & 0o111


@pytest.mark.parametrize("kept", [0, 20, 600, 1500])
def test_a_damaged_archive_is_named(tmp_path, kept):
    archive = pack(tmp_path / "a.tar.gz", *[member(f"{i}", bytes(f"{i * 7919}" * 999, "ascii")) for i in range(100)])
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(BenchError, match=r"a\.tar\.gz: damaged archive"):
        extract(archive, tmp_path / "out", lambda name: name, LIMIT)
