"""What a scan of somebody else's tars and folders says: where images lie, and what is left out."""

from __future__ import annotations

import gzip
import hashlib

import pytest
from shards_data import picture
from tar_data import image_tar, png, write_tar

from rc2l_bench.data.scan import Left, scan_folder, scan_tar
from rc2l_bench.errors import BenchError


def test_an_entry_is_the_place_the_size_and_the_hash_of_an_image(tmp_path):
    path = image_tar(tmp_path / "x.tar", range(7))
    shard, entries = scan_tar(path, "far/x.tar", 3, Left())
    assert (shard.name, shard.size, shard.samples) == ("far/x.tar", path.stat().st_size, 7)
    assert [entry.id for entry in entries] == [f"far/x/{number:03d}" for number in range(7)]
    for number, entry in enumerate(entries):
        image = path.read_bytes()[entry.image.offset :][: entry.image.size]
        assert image == png(number)
        assert entry.image.sha256 == hashlib.sha256(image).digest()
        assert (entry.height, entry.width) == picture(number)[0].shape[:2]
        assert (entry.shard, entry.kind, entry.mask) == (3, "png", None)


def test_what_is_no_image_is_counted_and_left_out(tmp_path):
    members = {
        "b.jpg": b"no picture", "./a/c.PNG": png(1), "a.seg.png": png(2), "d.png": png(3), "d.jpeg": png(4),
        "e.png": b"", "f\n.png": png(5), "words.txt": b"",
    }  # fmt: skip
    left = Left()
    shard, entries = scan_tar(write_tar(tmp_path / "x.tar", members), "x.tar", 0, left)
    assert [entry.id for entry in entries] == ["x/a/c", "x/d"]
    assert shard.samples == 2
    assert left.describe() == (
        "left out: 1 further images of a sample (like x/d), 2 images that cannot be decoded (like x/b), "
        "1 names that cannot be shown (like 'x/f\\n')"
    )


@pytest.mark.parametrize("cut", [700, 100])
def test_a_damaged_tar_is_told(tmp_path, cut):
    path = image_tar(tmp_path / "x.tar", range(3))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BenchError, match=r"x\.tar: "):
        scan_tar(path, "x.tar", 0, Left())


def test_a_compressed_tar_is_to_be_streamed(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(gzip.compress(image_tar(tmp_path / "x.tar", range(3)).read_bytes()))
    with pytest.raises(
        BenchError, match=r"x\.bin: [^\n]*: no tar, or a damaged one; [^\n]*stream it, `pool: \{stream: …\}`"
    ):
        scan_tar(path, "x.bin", 0, Left())


def test_a_folder_is_listed_by_paths_without_what_is_hidden(tmp_path):
    for name in ("b/2.png", "b/.3.png", ".git/4.png", "a.PNG", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(2) if name.lower().endswith("png") else b"words")
    left = Left()
    assert [entry.id for entry in scan_folder(tmp_path, left)] == ["a.PNG", "b/2.png"]
    assert left.describe() == "left out: 1 other files (like notes.txt)"
