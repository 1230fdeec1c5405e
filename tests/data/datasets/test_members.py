"""Files inside archives, read where they lie."""

from __future__ import annotations

import io
import os
import re
import tarfile
from pathlib import Path

import pytest
from archives_data import pack_tar, pack_zip

from rc2l_bench.data.datasets import members
from rc2l_bench.data.datasets.members import Members, TarMembers, ZipMembers, plain
from rc2l_bench.errors import BenchError
from rc2l_bench.readers import DamagedFileError

FILES = {"a/one.png": b"first" * 200, "a/two.png": b"second", "list.txt": b""}


@pytest.fixture(params=["tar", "zip"])
def path(request, tmp_path) -> Path:
    """An archive of each kind."""
    found = tmp_path / f"x.{request.param}"
    (pack_tar if request.param == "tar" else pack_zip)(found, FILES)
    return found


def opened(path: Path) -> Members:
    return ZipMembers(path, "get it") if path.suffix == ".zip" else TarMembers(path, lambda _: True, "get it")


def test_members_are_read_in_any_order(path):
    with opened(path) as archive:
        assert set(archive.names) == set(FILES)
        for name in reversed(FILES):
            assert archive.read(name) == FILES[name]


def test_a_missing_archive_says_what_to_do(path):
    path.unlink()
    with pytest.raises(BenchError, match=f"^{re.escape(str(path))}: missing: get it$"):
        opened(path)


def test_a_member_that_is_not_there_is_named(path):
    with opened(path) as archive:
        with pytest.raises(BenchError, match=r"has no member a/x\.png: it is not the whole archive"):
            archive.read("a/x.png")
        archive.require(FILES)
        with pytest.raises(BenchError, match=r"has no member a/x\.png \(and 1 more\)"):
            archive.require([*FILES, "a/x.png", "a/y.png"])


def test_what_is_no_archive_is_damaged(path):
    path.write_bytes(b"no archive" * 100)
    with pytest.raises(DamagedFileError, match="fetch it again"):
        opened(path)


def test_a_member_that_claims_to_be_larger_than_any_image_is_not_read(path, monkeypatch):
    monkeypatch.setattr(members, "MOST_MEMBER", 999)
    monkeypatch.setattr(members._check_size, "__defaults__", (999,))
    with opened(path) as archive:
        assert archive.read("a/two.png")
        with pytest.raises(DamagedFileError, match=r"a/one\.png claims 1,000 bytes, expected at most 999"):
            archive.read("a/one.png")


def test_only_wanted_members_of_a_tar_are_kept(tmp_path):
    pack_tar(tmp_path / "x.tar", FILES)
    with TarMembers(tmp_path / "x.tar", lambda name: name.endswith(".png"), "") as archive:
        assert list(archive.names) == ["a/one.png", "a/two.png"]


def test_names_have_no_dot_in_front_and_of_two_the_last_one_counts(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, data in (("./a.png", b"old"), ("a.png", b"new"), ("./b.png", b"b")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with TarMembers(tmp_path / "x.tar", lambda _: True, "") as archive:
        assert {name: archive.read(name) for name in archive.names} == {"a.png": b"new", "b.png": b"b"}
    assert (plain("./a/b"), plain(".x"), plain("a/./b")) == ("a/b", ".x", "a/./b")


def test_links_are_no_members(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        info = tarfile.TarInfo("link.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(info)
    with TarMembers(tmp_path / "x.tar", lambda _: True, "") as archive:
        assert list(archive.names) == []


def test_a_tar_that_is_cut_off_after_it_was_opened_is_told(tmp_path):
    pack_tar(tmp_path / "x.tar", FILES)
    with TarMembers(tmp_path / "x.tar", lambda _: True, "") as archive:
        os.truncate(tmp_path / "x.tar", 2000)
        with pytest.raises(DamagedFileError, match=r"a/one\.png is cut off: fetch it again"):
            archive.read("a/one.png")


def test_the_checksum_of_a_member_of_a_zip_is_compared(tmp_path):
    pack_zip(tmp_path / "x.zip", {"a.bin": os.urandom(1000)})
    data = bytearray((tmp_path / "x.zip").read_bytes())
    data[500] ^= 1
    (tmp_path / "x.zip").write_bytes(data)
    with ZipMembers(tmp_path / "x.zip", "") as archive, pytest.raises(DamagedFileError, match=r"x\.zip: a\.bin"):
        archive.read("a.bin")


def test_a_large_member_of_a_zip_is_read_piece_by_piece_up_to_what_it_may_have(tmp_path):
    pack_zip(tmp_path / "x.zip", FILES)
    with ZipMembers(tmp_path / "x.zip", "") as archive:
        with archive.stream("a/one.png", 1000) as file:
            assert (file.read(5), file.read()) == (b"first", FILES["a/one.png"][5:])
        with pytest.raises(DamagedFileError, match="expected at most 999"), archive.stream("a/one.png", 999):
            pass
        with pytest.raises(BenchError, match="has no member x"), archive.stream("x", 1000):
            pass
