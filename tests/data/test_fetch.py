"""Fetching from a real HTTP server that misbehaves, and from mirrors."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rc2l_bench.data import download
from rc2l_bench.data.fetch import MIRROR, Source, fetch, is_stamped, verify
from rc2l_bench.data.partial_files import PartialFile
from rc2l_bench.errors import BenchError, UsageError
from tests.fetch_data import Web, serve

DATA = hashlib.shake_128(b"a file").digest(400_000)
NAME = "archive.tar"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", (2.0, 0.4))
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.delenv(MIRROR, raising=False)


@pytest.fixture
def web():
    with serve(DATA) as web:
        yield web


def source_at(web: Web, **changes) -> Source:
    digest = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    source = Source(name=NAME, url=f"{web.url}/{NAME}", size=len(DATA), checksum=digest, licence="none")
    return replace(source, **changes)


def begin(folder: Path, data: bytes) -> None:
    """What an earlier process of this program has downloaded."""
    part = PartialFile(folder / NAME)
    part.begin()
    part.path.write_bytes(data)


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {NAME, f"{NAME}.ok", f"{NAME}.lock"}


def test_a_good_server_gives_the_file_and_nothing_else_is_left(web, tmp_path):
    path = fetch(source_at(web), tmp_path / "deep" / "raw")
    assert path.read_bytes() == DATA
    assert not leftovers(path.parent)


def test_a_second_fetch_asks_nobody(web, tmp_path):
    fetch(source_at(web), tmp_path)
    fetch(source_at(web), tmp_path)
    assert len(web.requests) == 1


def test_a_stamped_file_is_not_read_again(web, tmp_path, monkeypatch):
    path = fetch(source_at(web), tmp_path)
    monkeypatch.setattr("rc2l_bench.data.fetch.checksum", lambda *_: pytest.fail("the file was hashed again"))
    assert fetch(source_at(web), tmp_path) == path


@pytest.mark.parametrize("mode", ["stalls", "breaks_off"])
def test_what_has_arrived_before_a_failure_is_not_asked_for_again(web, tmp_path, mode):
    web.modes = [mode, "good"]
    assert fetch(source_at(web), tmp_path).read_bytes() == DATA
    assert web.ranges[0] is None
    assert int(web.ranges[1].removeprefix("bytes=").rstrip("-")) > len(DATA) // 4


def test_a_part_of_an_earlier_process_is_continued(web, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(DATA[:1234])
    assert fetch(source_at(web), tmp_path).read_bytes() == DATA
    assert web.ranges == ["bytes=1234-"]


def test_a_killed_process_leaves_a_part_that_the_next_one_continues(web, tmp_path):
    web.modes = ["stalls", "good"]
    source = source_at(web)
    code = f"from rc2l_bench.data.fetch import *; from pathlib import Path; fetch({source!r}, Path({str(tmp_path)!r}))"
    child = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    part = tmp_path / f"{NAME}.part"
    deadline = time.monotonic() + 30
    while not (part.is_file() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    have = part.stat().st_size
    assert fetch(source, tmp_path).read_bytes() == DATA
    assert web.ranges == [None, f"bytes={have}-"]


@pytest.mark.parametrize("held", [len(DATA), len(DATA) + 7])
def test_a_part_that_is_as_long_as_the_file_or_longer_comes_to_a_good_end(web, tmp_path, held):
    (tmp_path / f"{NAME}.part").write_bytes((DATA + b"rubbish")[:held])
    assert fetch(source_at(web), tmp_path).read_bytes() == DATA


def test_a_part_with_wrong_bytes_is_thrown_away_and_the_file_fetched_in_one_piece(web, tmp_path, capsys):
    begin(tmp_path, bytes(1000))
    assert fetch(source_at(web), tmp_path).read_bytes() == DATA
    assert web.ranges == ["bytes=1000-", None]
    assert "expected sha256:" in capsys.readouterr().err
    assert not leftovers(tmp_path)


@pytest.mark.parametrize(
    "mode",
    ["ignores_range", "lies_about_start", "lies_about_end", "lies_about_total", "no_content_range", "wrong_rest"],
)
@pytest.mark.parametrize("own", [True, False])
def test_a_server_that_is_wrong_about_range_spoils_neither_the_file_nor_what_a_person_brought(web, tmp_path, mode, own):
    if own:
        begin(tmp_path, DATA[:1000])
    else:
        (tmp_path / f"{NAME}.part").write_bytes(DATA[:1000])
    web.modes = [mode, "good"]
    assert fetch(source_at(web), tmp_path).read_bytes() == DATA
    assert leftovers(tmp_path) == (set() if own else {f"{NAME}.part.wrong"})
    assert own or (tmp_path / f"{NAME}.part.wrong").read_bytes() == DATA[:1000]


def test_without_a_known_size_a_server_that_lies_about_the_total_cannot_spoil_the_file(web, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(DATA[:1000])
    web.modes = ["lies_about_total", "good"]
    assert fetch(source_at(web, size=None), tmp_path).read_bytes() == DATA


def test_a_server_error_is_tried_again(web, tmp_path):
    web.modes = ["broken", "broken", "good"]
    assert fetch(source_at(web), tmp_path).read_bytes() == DATA


@pytest.mark.parametrize(
    ("mode", "message", "requests"),
    [
        ("missing", "answers 404", 1),
        ("broken", "answers 500", download.TRIES),
        ("hangs_up", "broke off", download.TRIES),
        ("other_size", f"has {len(DATA) + 4} bytes, expected {len(DATA)}", 1),
        ("wrong", "expected sha256:", 1),
        ("endless", "more than", 1),
    ],
)
def test_a_hopeless_server_ends_in_one_line_with_the_reason_and_the_way_out(web, tmp_path, mode, message, requests):
    web.modes = [mode]
    with pytest.raises(BenchError) as caught:
        fetch(source_at(web), tmp_path)
    assert message in str(caught.value)
    assert MIRROR in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(web.requests) == requests
    assert not (tmp_path / NAME).exists()


def test_a_server_that_stalls_for_ever_is_given_up(web, tmp_path):
    web.modes = ["stalls"]
    started = time.monotonic()
    with pytest.raises(BenchError, match=r"no answer for 0\.4 s|broke off"):
        fetch(source_at(web), tmp_path)
    assert time.monotonic() - started < 10


def test_nobody_listening_is_said_in_one_line(tmp_path):
    with serve(DATA) as web:
        source = source_at(web)
    with pytest.raises(BenchError, match="cannot be reached"):
        fetch(source, tmp_path)


def test_redirects_are_followed(web, tmp_path):
    web.modes = ["elsewhere", "good"]
    assert fetch(source_at(web), tmp_path).read_bytes() == DATA


def test_the_bytes_of_a_gzip_file_are_kept_even_if_the_server_calls_them_an_encoding(tmp_path):
    data = gzip.compress(DATA, mtime=0)
    with serve(data) as web:
        web.modes = ["says_gzip"]
        source = source_at(web, size=len(data), checksum=f"md5:{hashlib.md5(data).hexdigest()}")
        assert fetch(source, tmp_path).read_bytes() == data


def test_a_source_without_checksum_is_never_joined_from_two_transfers(web, tmp_path):
    begin(tmp_path, DATA[:1000])
    web.modes = ["breaks_off", "good"]
    assert fetch(source_at(web, size=None, checksum=None), tmp_path).read_bytes() == DATA
    assert web.ranges == [None, None]


def test_two_at_once_download_once(web, tmp_path):
    threads = [threading.Thread(target=fetch, args=(source_at(web), tmp_path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(web.requests) == 1
    assert (tmp_path / NAME).read_bytes() == DATA


def test_an_unfinished_file_that_a_person_put_there_is_continued(web, tmp_path, capsys):
    """As a browser leaves it when it is closed."""
    (tmp_path / NAME).write_bytes(DATA[:300_000])
    assert fetch(source_at(web), tmp_path).read_bytes() == DATA
    assert web.ranges == ["bytes=300000-"]
    assert not leftovers(tmp_path)
    told = "300,000 bytes are there: taken for the beginning of the file and continued"
    assert capsys.readouterr().err.splitlines() == [f"{tmp_path / NAME}: {told}"]


@pytest.mark.parametrize("brought", [b"wrong", bytes(len(DATA)), bytes(len(DATA) + 1)])
def test_a_wrong_file_that_a_person_put_there_is_kept_under_another_name(web, tmp_path, capsys, brought):
    (tmp_path / NAME).write_bytes(brought)
    assert fetch(source_at(web), tmp_path).read_bytes() == DATA
    (kept,) = leftovers(tmp_path)
    assert (tmp_path / kept).read_bytes() == brought
    assert f"kept as {kept}, which you may delete" in capsys.readouterr().err


def test_of_two_unfinished_files_the_longer_one_is_continued_and_both_stay(web, tmp_path):
    (tmp_path / NAME).write_bytes(DATA[:5000])
    (tmp_path / f"{NAME}.part").write_bytes(DATA[:9000])
    assert fetch(source_at(web), tmp_path).read_bytes() == DATA
    assert web.ranges == ["bytes=9000-"]
    assert (tmp_path / f"{NAME}.wrong").read_bytes() == DATA[:5000]


def test_a_mirror_does_not_touch_an_unfinished_file(web, tmp_path, monkeypatch):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / NAME).write_bytes(DATA)
    (tmp_path / f"{NAME}.part").write_bytes(DATA[:9])
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))
    assert fetch(source_at(web), tmp_path).read_bytes() == DATA
    assert (tmp_path / f"{NAME}.part").read_bytes() == DATA[:9]


def test_a_file_that_changes_after_its_stamp_is_noticed(web, tmp_path):
    path = fetch(source_at(web), tmp_path)
    path.write_bytes(bytes(len(DATA)))
    assert not is_stamped(source_at(web), path)
    assert fetch(source_at(web), tmp_path).read_bytes() == DATA


def test_a_stamp_for_another_checksum_does_not_count(web, tmp_path):
    path = fetch(source_at(web), tmp_path)
    assert not is_stamped(source_at(web, checksum="sha256:00"), path)


def test_verify_reads_the_file_although_it_is_stamped(web, tmp_path):
    path = fetch(source_at(web), tmp_path)
    state = path.stat()
    path.write_bytes(bytes(len(DATA)))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert is_stamped(source_at(web), path)
    with pytest.raises(BenchError, match="expected sha256:"):
        verify(source_at(web), path)


def test_a_mirror_folder_is_asked_first(web, tmp_path, monkeypatch):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / NAME).write_bytes(DATA)
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))
    assert fetch(source_at(web), tmp_path / "raw").read_bytes() == DATA
    assert not web.requests


def test_in_place_leaves_a_file_of_the_mirror_where_it_is(web, tmp_path, monkeypatch):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / NAME).write_bytes(DATA)
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))
    assert fetch(source_at(web), tmp_path / "raw", in_place=True) == tmp_path / "mirror" / NAME
    assert not (tmp_path / "raw" / NAME).exists()


@pytest.mark.parametrize("held", [None, b"wrong"])
def test_a_mirror_without_the_right_file_is_passed_over(web, tmp_path, monkeypatch, held):
    (tmp_path / "mirror").mkdir()
    if held:
        (tmp_path / "mirror" / NAME).write_bytes(held)
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))
    assert fetch(source_at(web), tmp_path / "raw").read_bytes() == DATA
    assert len(web.requests) == 1


def test_a_mirror_url_is_asked_first_by_file_name_then_the_official_url(web, tmp_path, monkeypatch):
    with serve(DATA) as mirror:
        mirror.modes = ["missing"]
        monkeypatch.setenv(MIRROR, f"{mirror.url}/files/")
        assert fetch(source_at(web), tmp_path).read_bytes() == DATA
        assert [path for path, _ in mirror.requests] == [f"/files/{NAME}"]
    assert len(web.requests) == 1


def test_a_mirror_folder_that_does_not_exist_is_wrong_use(web, tmp_path, monkeypatch):
    monkeypatch.setenv(MIRROR, str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="no such folder"):
        fetch(source_at(web), tmp_path)


def test_a_password_in_an_address_is_not_shown(tmp_path, monkeypatch):
    with serve(DATA) as web:
        web.modes = ["missing"]
        monkeypatch.setenv(MIRROR, web.url.replace("//", "//user:secret@"))
        with pytest.raises(BenchError) as caught:
            fetch(source_at(web), tmp_path)
    assert "secret" not in str(caught.value)


def test_a_source_with_a_login_says_which_file_how_large_and_where_to_put_it(web, tmp_path):
    with pytest.raises(BenchError) as caught:
        fetch(source_at(web, login="Register at example.org."), tmp_path / "raw")
    for word in (NAME, "400,000 bytes", "Register at example.org.", str(tmp_path / "raw"), MIRROR):
        assert word in str(caught.value)
    assert not web.requests


def test_a_file_put_by_hand_is_checked_and_a_wrong_one_is_left_alone(web, tmp_path):
    source = source_at(web, login="Register at example.org.")
    (tmp_path / NAME).write_bytes(b"cut off")
    with pytest.raises(BenchError, match="expected 400000 bytes, got 7"):
        fetch(source, tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"cut off"
    (tmp_path / NAME).write_bytes(DATA)
    assert fetch(source, tmp_path) == tmp_path / NAME
