"""The extra images of a data set: lists by reference, made once, continued, taken over; masks never come along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pool_data import images, listed, write_far
from s3_data import SECRET
from tar_data import png
from web_data import FolderServer, serve_folder

from rc2l_bench.data import pool_lists
from rc2l_bench.data.packing import verify
from rc2l_bench.data.pool_index import LISTS
from rc2l_bench.errors import BenchError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    return write_far(tmp_path, monkeypatch)


@pytest.fixture
def web(here) -> Iterator[FolderServer]:
    with serve_folder(here / "far") as server:
        yield server


def test_images_stay_where_they_are(here):
    (here / "photos/deep").mkdir(parents=True)
    (here / "photos/deep/one.png").write_bytes(png(7))
    tars, photos = listed("far/t-*.tar", "photos")
    assert images(tars) == [png(number) for number in range(9)]
    assert list(tars.ids)[3:5] == ["t-0/003", "t-1/004"]
    assert (images(photos), list(photos.ids)) == ([png(7)], ["deep/one.png"])
    assert not any(path.suffix in (".tar", ".png") for folder in (".rc2l", "data") for path in Path(folder).rglob("*"))


@pytest.mark.parametrize("room", [0, 1 << 30])
def test_tars_far_away_are_listed_by_one_transfer_each(web, room):
    (tars,) = listed(f"{web.url}/t-{{0..1}}.tar", room=room)
    assert images(tars) == [png(number) for number in range(9)]
    whole = [path for path, span in web.asked if span is None and path.endswith(".tar")]
    assert sorted(whole) == ["/t-0.tar", "/t-1.tar"]
    assert any(Path(".rc2l/mirror").rglob("*.tar")) == (room > 0)
    web.asked.clear()
    assert listed(f"{web.url}/t-{{0..1}}.tar", room=room)[0].digest == tars.digest
    assert not web.asked


def test_near_and_far_the_same_tars_have_one_digest(web):
    assert listed("far/t-*.tar")[0].digest == listed(f"{web.url}/t-{{0..1}}.tar")[0].digest


@pytest.mark.parametrize("room", [0, 1 << 30])
def test_tars_in_a_bucket_are_those_of_the_disk(here, s3, room):
    import s3fs  # where it is not installed, the fixture has skipped the test

    s3fs.S3FileSystem().put(str(here / "far"), s3, recursive=True)
    near, (far,) = listed("far/t-*.tar")[0].digest, listed(f"{s3}/t-{{0..1}}.tar", room=room)
    assert (far.digest, images(far)) == (near, [png(number) for number in range(9)])
    assert any(Path(".rc2l/mirror").rglob("*.tar")) == (room > 0)


def test_a_tar_that_a_bucket_does_not_have_is_told_without_a_secret(here, s3):
    with pytest.raises(BenchError, match=r"t-7\.tar") as error:
        listed(f"{s3}/t-7.tar")
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_listing_that_was_cut_off_goes_on(web, monkeypatch):
    def down(path: Path, name: str, *_: object) -> None:
        assert name == "t-1.tar"
        raise BenchError("cable")

    real = pool_lists.scan_tar
    monkeypatch.setattr(pool_lists, "scan_tar", lambda *args: real(*args) if args[1] == "t-0.tar" else down(*args))
    with pytest.raises(BenchError, match="cable"):
        listed(f"{web.url}/t-{{0..1}}.tar")
    monkeypatch.setattr(pool_lists, "scan_tar", real)
    web.asked.clear()
    (tars,) = listed(f"{web.url}/t-{{0..1}}.tar")
    assert not any(path == "/t-0.tar" for path, _ in web.asked)
    assert images(tars) == [png(number) for number in range(9)]


def test_a_file_that_changed_after_it_was_listed_is_refused(here):
    (tars,) = listed("far/t-0.tar")
    data = (here / "far/t-0.tar").read_bytes()
    assert verify(tars.folder).digest == tars.digest
    (here / "far/t-0.tar").write_bytes(data.replace(png(2), bytes(len(png(2)))))
    with pytest.raises(BenchError, match=r"t-0\.tar: sample 't-0/002': has changed since it was written"):
        verify(tars.folder)
    with pytest.raises(BenchError, match=r"t-0\.tar: sample 't-0/002': has changed since it was written"):
        images(tars)
    assert len(list(LISTS.iterdir())) >= 1
