from __future__ import annotations

import os
import pickle
import re
import threading
import time
from pathlib import Path

import pytest
from web_data import FolderServer, serve_folder

from rc2l_bench.data import ranges
from rc2l_bench.data.ranges import Fault, FsspecRanges, HttpRanges, Span, ranges_for
from rc2l_bench.errors import UsageError

DATA = bytes(range(256)) * 40


@pytest.fixture
def web(tmp_path: Path, monkeypatch) -> FolderServer:
    monkeypatch.setattr(ranges, "TIMEOUT", (2.0, 0.3))
    (tmp_path / "x.tar").write_bytes(DATA)
    with serve_folder(tmp_path) as server:
        yield server


def fetch(web: FolderServer, *spans: tuple[int, int], path: str = "/x.tar") -> list[bytes | Fault]:
    return HttpRanges().fetch([Span(web.url + path, *span) for span in spans])


def test_spans_come_in_their_order_and_are_asked_for_exactly(web):
    assert fetch(web, (300, 5), (0, 2), (10239, 1)) == [DATA[300:305], DATA[:2], DATA[-1:]]
    assert sorted(wanted for _, wanted in web.asked) == ["bytes=0-1", "bytes=10239-10239", "bytes=300-304"]


def test_spans_are_fetched_side_by_side(web):
    web.delay = 0.2
    begin = time.monotonic()
    assert len(fetch(web, *[(number, 4) for number in range(16)])) == 16
    assert time.monotonic() - begin < 16 * 0.2 / 2


def test_a_server_that_sends_the_whole_file_is_understood(web):
    web.faults = ("ignores_range",)
    assert fetch(web, (300, 5)) == [DATA[300:305]]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("stalls", "no answer for|broke off"), ("cuts", "broke off"), ("empty", "broke off"),
        ("hangs_up", r"cannot be reached|connection"), ("busy", "answers 429"), ("overloaded", "answers 503"),
        ("broken", "answers 500"), ("other_range", "answers 206 with another Content-Range"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_worth_another_try(web, fault, reason):
    web.faults = (fault,)
    (found,) = fetch(web, (300, 50))
    assert isinstance(found, Fault)
    assert not found.final
    assert re.search(reason, found.reason)


def test_the_wait_that_a_server_asks_for_is_kept_within_bounds(web):
    web.faults = ("busy",)
    (found,) = fetch(web, (0, 1))
    assert found.wait == 0
    assert ranges._seconds("7") == 7
    assert ranges._seconds("99999") == ranges.MOST_WAIT
    assert ranges._seconds("Wed, 21 Oct 2026 07:28:00 GMT") == 0


def test_a_missing_file_is_final(web):
    (found,) = fetch(web, (0, 1), path="/nothing.tar")
    assert (found.reason, found.final) == ("answers 404", True)
    (found,) = fetch(web, (99999, 5))
    assert (found.reason, found.final) == ("answers 416", True)


def test_a_drip_is_a_stall(web, monkeypatch):
    """Every byte comes in time, and the whole never would."""
    monkeypatch.setattr(ranges, "SLOWEST", 1 << 20)

    def drip(handler, data, start, stop, ranged):
        handler.part(data, start, stop, ranged, data[start : start + 1])
        for place in range(start + 1, stop):
            if web.release.wait(0.1):
                return
            handler.wfile.write(data[place : place + 1])

    monkeypatch.setattr("web_data.FolderHandler.drips", drip, raising=False)
    web.faults = ("drips",)
    (found,) = fetch(web, (0, 100))
    assert "bytes in" in found.reason or "no answer" in found.reason
    web.release.set()


def test_secrets_go_to_the_server_and_nowhere_else(web, monkeypatch):
    monkeypatch.setenv("POOL_TOKEN", "sig=s3cret")
    web.token = "sig=s3cret"
    assert fetch(web, (0, 3), path="/x.tar?${POOL_TOKEN}") == [DATA[:3]]
    monkeypatch.setenv("POOL_TOKEN", "sig=wr0ng")
    (found,) = fetch(web, (0, 3), path="/x.tar?${POOL_TOKEN}")
    assert found.final
    assert "answers 403: credentials come from" in found.reason
    assert "wr0ng" not in found.reason


def test_an_unreachable_server_is_named_without_secrets():
    (found,) = HttpRanges().fetch([Span("http://127.0.0.1:9/x?sig=s3cret", 0, 1)])
    assert (found.reason, found.final) == ("cannot be reached", False)


def test_it_works_after_a_fork_and_a_pickle(web):
    used = HttpRanges()
    span = Span(web.url + "/x.tar", 5, 3)
    assert used.fetch([span]) == [DATA[5:8]]
    assert pickle.loads(pickle.dumps(used)).fetch([span]) == [DATA[5:8]]
    child = os.fork()
    if child == 0:
        os._exit(0 if used.fetch([span, span]) == [DATA[5:8]] * 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert used.fetch([span]) == [DATA[5:8]]
    used.close()
    assert used.fetch([span]) == [DATA[5:8]]


def test_closing_ends_the_threads(web):
    used = HttpRanges()
    used.fetch([Span(web.url + "/x.tar", 0, 1)] * 4)
    used.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(thread.name.startswith("ranges") for thread in threading.enumerate()):
        time.sleep(0.01)
    assert not any(thread.name.startswith("ranges") for thread in threading.enumerate())


def test_everything_else_is_read_by_fsspec(tmp_path):
    (tmp_path / "x.tar").write_bytes(DATA)
    way = ranges_for(f"file://{tmp_path}/x.tar")
    assert isinstance(way, FsspecRanges)
    good, missing = way.fetch([Span(f"file://{tmp_path}/x.tar", 9, 4), Span(f"file://{tmp_path}/y.tar", 0, 1)])
    assert good == DATA[9:13]
    assert (missing.final, missing.reason.split(":")[0]) == (True, "FileNotFoundError")
    assert way.fetch([]) == []


def test_a_scheme_that_nobody_reads_is_one_line():
    with pytest.raises(UsageError, match=r"^nowhere://…: ") as error:
        FsspecRanges().fetch([Span("nowhere://x/y", 0, 1)])
    assert "\n" not in str(error.value)
