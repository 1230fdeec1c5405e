"""Hostile and damaged archives."""

from __future__ import annotations

import gzip
import io
import random
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from memory_data import PEAK

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
    with pytest.raises(BenchError, match=r"a\.tar\.gz: damaged \(.*\): fetch it again"):
        extract(archive, tmp_path / "out", lambda name: name, LIMIT)


def header(kind: bytes, size: int) -> bytes:
    """A member of a kind whose content claims a size."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


MEASURE = """
import sys
from pathlib import Path
from rc2l_bench.data.archives import extract
from rc2l_bench.errors import BenchError
try:
    extract(Path(sys.argv[1]), Path(sys.argv[2]), lambda name: name, 1 << 20)
except BenchError as error:
    print(error)
print(PEAK // 1024)
""".replace("PEAK", PEAK)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_name_of_two_gigabytes_is_not_read(tmp_path, kind):
    """1 MB of gzip; tarfile alone would take 2 GB for the name."""
    with gzip.open(tmp_path / "a.tar.gz", "wb", 1) as file:
        file.write(header(kind, 2 << 30))
        for _ in range(256):
            file.write(bytes(1 << 20))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path / "a.tar.gz"), str(tmp_path / "out")],
                          capture_output=True, text=True, check=True)  # fmt: skip
    message, peak = done.stdout.splitlines()
    assert re.search(r"a\.tar\.gz: damaged \(.*a header of 2147483648 bytes.*: fetch it again", message)
    assert int(peak) < 200


def test_what_is_passed_over_is_bounded_too(tmp_path):
    info = tarfile.TarInfo("zeros")
    info.size = 5 * LIMIT
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(BenchError, match="not the right archive"):
        extract(tmp_path / "a.tar.gz", tmp_path / "out", lambda _: None, LIMIT)


@pytest.mark.parametrize(
    "content", [b"11 path", b"9 path=x\n", b"x path=a\n", b"12 path=\xff\xfe\xfd\n", b"99999999999999999999 path=a\n"]
)
def test_a_malformed_pax_header_is_one_line_or_harmless(tmp_path, content):
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(header(tarfile.XHDTYPE, len(content)) + content.ljust(512, b"\0"))
        info, data = member("good")
        file.write(info.tobuf() + data.ljust(512, b"\0") + bytes(1024))
    try:
        extract(tmp_path / "a.tar.gz", tmp_path / "out", lambda _: "x", LIMIT)
    except BenchError as error:
        assert re.fullmatch(r".*a\.tar\.gz: .*", str(error))  # noqa: PT017 - either is right


@pytest.mark.parametrize(("mode", "suffix"), [("w:gz", "gz"), ("w:bz2", "bz2"), ("w:xz", "xz"), ("w", "tar")])
def test_damage_in_any_compression_is_one_line_or_harmless(tmp_path, mode, suffix):
    rng = random.Random(0)
    noise = rng.randbytes(5000)
    path = tmp_path / f"a.{suffix}"
    with tarfile.open(path, mode) as tar:
        for name in ("a", "b"):
            info, _ = member(name, noise)
            tar.addfile(info, io.BytesIO(noise))
    data = path.read_bytes()
    refused = 0
    for turn in range(200):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            extract(path, tmp_path / f"out{turn}", lambda name: name if name in "ab" else None, LIMIT)
        except BenchError as error:
            refused += str(error).startswith(f"{path}: ")
    assert refused > (5 if mode == "w" else 150)
