"""Fetching from a real HTTP server that misbehaves, and from mirrors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fetch_data import DATA, NAME, begin, leftovers, serve, source_at

from rc2l_bench.data.fetch import MIRROR, fetch, is_stamped, verify
from rc2l_bench.errors import BenchError, UsageError

pytestmark = pytest.mark.usefixtures("impatient")


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
