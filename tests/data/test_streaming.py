"""Streams of tars through the `webdataset` library: every image once in a pass, seeded, dealt, one line for faults."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_data
from shards_data import picture
from tar_data import image_tar, png, write_tar
from web_data import FAULTS, FolderServer, serve_folder

from rc2l_bench.data import download, far_files, remote
from rc2l_bench.data.datasets.pool_config import StreamConfig
from rc2l_bench.data.geometry import Geometry
from rc2l_bench.data.streaming import Decoded, ImageStream, StreamReader, open_stream
from rc2l_bench.errors import BenchError, UsageError

TARS, EACH = 4, 5


@pytest.fixture
def tars(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(TARS):
        image_tar(tmp_path / f"tars/{number}.tar", range(number * EACH, (number + 1) * EACH))
    return tmp_path / "tars"


@pytest.fixture
def web(tars, monkeypatch) -> Iterator[FolderServer]:
    monkeypatch.setattr(far_files, "TIMEOUT", (2.0, 0.3))
    monkeypatch.setattr(download, "TIMEOUT", (2.0, 0.3))
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    with serve_folder(tars) as server:
        yield server


def stream(*places: str, seed: int = 0, start: int = 0, rank: int = 0, world: int = 1, **more) -> ImageStream:
    geometry = Geometry(tiny_data.protocol(), seed, rank, world)
    config = StreamConfig(stream=list(places), shuffle=more.get("shuffle", 8))
    return open_stream(config, geometry, start, more.get("room", 0), more.get("known", frozenset()))


def take(found: ImageStream, count: int) -> list[Decoded]:
    """The first images of a stream, or its error."""
    images: list[Decoded] = []
    for batch in itertools.islice(StreamReader(found, 1), count):
        if isinstance(batch, Exception):
            raise batch
        images += batch
    return images


def names(found: ImageStream, count: int) -> list[str]:
    return [name for name, _ in take(found, count)]


ALL = [f"{number:03d}" for number in range(TARS * EACH)]


def test_every_pass_has_every_image_once_in_an_order_of_its_own(tars):
    found = names(stream("tars/*.tar"), 3 * len(ALL))
    passes = [found[first : first + len(ALL)] for first in range(0, len(found), len(ALL))]
    assert [sorted(one) for one in passes] == [ALL] * 3
    assert ALL not in passes
    assert passes[0] != passes[1] != passes[2]


def test_the_order_is_that_of_the_seed_and_of_the_step_that_a_run_begins_with(tars):
    first = names(stream("tars/{0..3}.tar"), len(ALL))
    assert names(stream("tars/{0..3}.tar"), len(ALL)) == first
    assert names(stream("tars/{0..3}.tar", seed=1), len(ALL)) != first
    assert names(stream("tars/{0..3}.tar", start=5), len(ALL)) != first


def test_processes_share_the_tars(tars):
    parts = [names(stream("tars/*.tar", rank=rank, world=2), len(ALL) // 2) for rank in (0, 1)]
    assert sorted(parts[0] + parts[1]) == ALL
    with pytest.raises(UsageError, match="4 tars cannot be dealt to 5 processes: use fewer devices"):
        stream("tars/*.tar", world=5)


def test_images_that_are_known_or_broken_are_left_out(tars):
    write_tar(tars / "4.tar", {"900.png": b"no image", "901.jpg": png(901), "902.png": png(902)})
    known = frozenset({hashlib.sha256(png(0)).digest(), hashlib.sha256(png(902)).digest()})
    found = names(stream("tars/*.tar", known=known), len(ALL))
    assert sorted(found) == [*ALL[1:], "901"]


@pytest.mark.parametrize(("members", "reason"), [
    ({"a.txt": b"words"}, r"there is no image \(jpg, jpeg, png\) in these tars"),
    ({f"{number}.png": b"no" for number in range(1001)}, "1001 samples in a row hold no image that can be decoded"),
])  # fmt: skip
def test_tars_without_images_are_told(tars, members, reason):
    write_tar(tars / "empty.tar", members)
    with pytest.raises(BenchError, match=rf"^tars/empty\.tar: {reason}$"):
        take(stream("tars/empty.tar"), 1)


def test_a_damaged_tar_is_one_line(tars):
    (tars / "0.tar").write_bytes((tars / "0.tar").read_bytes()[:700])
    with pytest.raises(BenchError, match=r"^tars/0\.tar: ") as error:
        take(stream("tars/0.tar"), 2 * EACH)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("room", [0, 1 << 30])
def test_images_come_from_a_server_that_misbehaves_as_they_are(web, room):
    web.faults, web.every = tuple(fault for fault in FAULTS if fault != "flips"), 2
    found = take(stream(f"{web.url}/{{0..3}}.tar", room=room), len(ALL))
    assert sorted(name for name, _ in found) == ALL
    for name, image in found:
        np.testing.assert_array_equal(image, picture(int(name))[0])
    asked = len(web.asked)
    take(stream(f"{web.url}/{{0..3}}.tar", room=room), len(ALL))
    assert (len(web.asked) == asked) == (room > 0)


def test_it_gives_up_with_one_line_that_holds_no_secret(web, monkeypatch):
    monkeypatch.setenv("POOL_TOKEN", "s3cret")
    web.faults = ("overloaded",)
    with pytest.raises(BenchError) as error:
        take(stream(f"{web.url}/0.tar?sig=${{POOL_TOKEN}}"), 1)
    assert str(error.value) == f"{web.url}/0.tar: answers 503 (tried 5 times)"
