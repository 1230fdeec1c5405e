from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from rc2l_bench.readers import DamagedFileError
from rc2l_bench.run.bundles import pack, unpack

NAMES = ["run.json", "panels/0-a: strange\\id é.png", f"panels/1-{'n' * 200}.png"]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "here/panels").mkdir(parents=True)
    for name in NAMES:
        (tmp_path / "here" / name).write_bytes(name.encode() * 1000)
    return tmp_path / "here"


def test_files_go_in_and_come_out(folder, tmp_path):
    pack(folder, NAMES, tmp_path / "tar")
    (tmp_path / "there").mkdir()
    unpack(tmp_path / "tar", tmp_path / "there", NAMES)
    found = {path.relative_to(tmp_path / "there").as_posix() for path in (tmp_path / "there").rglob("*.*")}
    assert found == set(NAMES)
    assert all((tmp_path / "there" / name).read_bytes() == (folder / name).read_bytes() for name in NAMES)


def test_equal_files_make_equal_bytes(folder, tmp_path):
    pack(folder, NAMES, tmp_path / "one")
    os.utime(folder / NAMES[0], (1.0, 1.0))
    (folder / NAMES[0]).chmod(0o600)
    pack(folder, reversed(NAMES), tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("name", ["../out", "/out", "panels/../../out", "more"])
def test_what_is_not_on_the_list_or_leads_out_is_refused(tmp_path, name):
    with tarfile.open(tmp_path / "tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    (tmp_path / "there").mkdir()
    with pytest.raises(DamagedFileError, match="which is not to be there"):
        unpack(tmp_path / "tar", tmp_path / "there", NAMES if name == "more" else [name])
    assert list((tmp_path / "there").iterdir()) == []


def test_a_link_is_refused(folder, tmp_path):
    with tarfile.open(tmp_path / "tar", "w") as tar:
        link = tarfile.TarInfo("run.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DamagedFileError, match=r"holds 'run\.json', which is not to be there"):
        unpack(tmp_path / "tar", tmp_path, ["run.json"])


def test_a_missing_file_is_named(folder, tmp_path):
    pack(folder, NAMES[:1], tmp_path / "tar")
    (tmp_path / "there").mkdir()
    with pytest.raises(DamagedFileError, match=r"has no 'panels/0-a"):
        unpack(tmp_path / "tar", tmp_path / "there", NAMES)
