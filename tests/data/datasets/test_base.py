"""What every data set says of itself without an own word: whether it is there, what it reads, what it is called."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from rc2l_bench.data.datasets.base import Dataset, Sample, Source
from rc2l_bench.data.datasets.pool_config import StreamConfig
from rc2l_bench.data.fetch import MIRROR, fetch
from rc2l_bench.errors import BenchError

CONTENT = b"an archive"
SOURCE = Source(
    name="a.tar", url="http://127.0.0.1:9/gone", size=len(CONTENT), licence="none",
    checksum=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}",
)  # fmt: skip


# ruff: noqa: ARG002 - what the interface hands over
class Plain(Dataset):
    """Two images, one of them with a mask; nothing to fetch."""

    name = "plain"
    classes = ("a", "b")
    palette = ((0, 0, 0), (1, 2, 3))
    canvas = (4, 6)

    def prepare(self, raw: Path) -> None:
        raw.mkdir(parents=True)
        (raw / "ready").touch()

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        for number in range(2):
            yield Sample(id=f"i{number}", part=part, image=b"i", suffix="png", mask=b"m" if number else None)


class Fetched(Plain):
    """The same, of an archive."""

    sources = (SOURCE,)

    def prepare(self, raw: Path) -> None:
        fetch(SOURCE, raw)


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Path:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/a.tar").write_bytes(CONTENT)
    monkeypatch.setenv(MIRROR, str(tmp_path / "mirror"))
    return tmp_path / "mirror"


def test_images_alone_have_no_mask(tmp_path):
    found = list(Plain().images(tmp_path, "train"))
    assert [(sample.id, sample.mask) for sample in found] == [("i0", None), ("i1", None)]


def test_what_shards_and_runs_say_of_it_is_ready_for_json():
    assert Plain().meta() == {
        "name": "plain", "classes": ["a", "b"], "palette": [[0, 0, 0], [1, 2, 3]], "canvas": [4, 6],
    }  # fmt: skip
    assert Plain().usual == (4, 6)


@pytest.mark.parametrize(("mask", "kind"), [(False, "image"), (True, "mask")])
def test_a_message_names_the_sample_and_what_of_it(tmp_path, mask, kind):
    assert Plain().origin(tmp_path, "val", "i1", mask=mask) == f"plain: {kind} of 'i1' in val"


def test_without_sources_it_is_there_when_its_folder_holds_something(tmp_path):
    assert not Plain().present(tmp_path / "raw")
    (tmp_path / "raw").mkdir()
    assert not Plain().present(tmp_path / "raw")
    (tmp_path / "raw/ready").touch()
    assert Plain().present(tmp_path / "raw")


def test_with_sources_it_is_there_when_each_of_them_was_verified(tmp_path, mirror):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.tar").write_bytes(CONTENT)
    assert not Fetched().present(raw), "nobody has looked at it"
    Fetched().prepare(raw)
    assert Fetched().present(raw)
    (raw / "a.tar").write_bytes(CONTENT + b"!")
    assert not Fetched().present(raw)


def test_verifying_reads_sources_again(tmp_path, mirror):
    raw = tmp_path / "raw"
    Fetched().prepare(raw)
    Fetched().verify(raw)
    (raw / "a.tar").write_bytes(CONTENT[::-1])
    with pytest.raises(BenchError, match=r"a\.tar.*expected sha256:"):
        Fetched().verify(raw)


def test_verifying_what_has_no_sources_prepares_it(tmp_path):
    Plain().verify(tmp_path / "raw")
    assert (tmp_path / "raw/ready").is_file()


def test_verifying_makes_anew_what_is_made_of_the_sources(tmp_path, mirror):
    class Made(Fetched):
        made = Source(name="table", url="", size=None, checksum=None, licence="")

        def prepare(self, raw: Path) -> None:
            super().prepare(raw)
            if not (raw / "table").exists():
                (raw / "table").write_bytes((raw / "a.tar").read_bytes()[:2])

    raw = tmp_path / "raw"
    Made().prepare(raw)
    (raw / "table").write_bytes(b"changed")
    Made().verify(raw)
    assert (raw / "table").read_bytes() == b"an"


def test_of_a_pool_tars_and_folders_are_looked_at_and_what_is_far_away_is_not(tmp_path):
    (tmp_path / "photos/deep").mkdir(parents=True)
    (tmp_path / "photos/x.png").touch()
    for number in range(2):
        (tmp_path / f"t-{number}.tar").touch()
    dataset = Plain()
    dataset.pool = [str(tmp_path / "photos"), str(tmp_path / "t-*.tar"), "https://a.org/y.tar"]
    found = {path.relative_to(tmp_path).as_posix() for path in dataset.inputs()}
    assert found == {"photos", "photos/deep", "t-0.tar", "t-1.tar"}


@pytest.mark.parametrize("pool", [None, StreamConfig(stream=["t.tar"])])
def test_without_a_pool_or_with_a_stream_nothing_is_looked_at(pool):
    dataset = Plain()
    dataset.pool = pool
    assert list(dataset.inputs()) == []
