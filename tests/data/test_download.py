"""Downloads from a real HTTP server that misbehaves."""

from __future__ import annotations

import gzip
import hashlib
import time

import pytest
from fetch_data import DATA, NAME, begin, leftovers, serve, source_at

from rc2l_bench.data import download
from rc2l_bench.data.fetch import MIRROR, fetch
from rc2l_bench.errors import BenchError

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.mark.parametrize("mode", ["stalls", "breaks_off"])
def test_what_has_arrived_before_a_failure_is_not_asked_for_again(web, tmp_path, mode):
    web.modes = [mode, "good"]
    assert fetch(source_at(web), tmp_path).read_bytes() == DATA
    assert web.ranges[0] is None
    assert int(web.ranges[1].removeprefix("bytes=").rstrip("-")) > len(DATA) // 4


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
