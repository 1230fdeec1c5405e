from __future__ import annotations

import json
import tarfile
from hashlib import sha256

from shards_data import META, contents, make_samples, make_shards, picture

from rc2l_bench.data.packing import verify, write


def test_the_index_says_where_tar_finds_the_members_and_what_sha256sum_prints(tmp_path):
    shards = make_shards(tmp_path / "pool", 5)
    for number, shard in enumerate(shards.index.shards):
        with tarfile.open(tmp_path / "pool" / shard.name) as tar:
            members = tar.getmembers()
            lines = "".join(f"{sha256(tar.extractfile(m).read()).hexdigest()}  {m.name}\n" for m in members)
        entries = [entry for entry in shards.table.entries(range(5)) if entry.shard == number]
        assert len(entries) == shard.samples
        expected = [(m.offset, m.size) for entry in entries for m in (entry.image, entry.mask)]
        assert [(member.offset_data, member.size) for member in members] == expected
        assert sha256(lines.encode()).hexdigest() == shard.members_sha256
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o444)}


def test_a_part_without_samples_is_an_index_without_samples(tmp_path):
    write(tmp_path / "test", [], META, "test", 4, with_masks=True)
    assert sorted(contents(tmp_path / "test")) == ["index.json", "samples.arrow"]
    shards = verify(tmp_path / "test")
    assert (len(shards), shards.labelled, shards.index.part) == (0, False, "test")


def test_the_index_names_split_part_and_data_set(tmp_path):
    write(tmp_path / "labelled", make_samples(3), META, "train", 4, with_masks=True, split="1_4", split_id="ab" * 32)
    found = json.loads((tmp_path / "labelled" / "index.json").read_bytes())
    assert (found["format"], found["part"], found["split"], found["split_id"]) == (2, "train", "1_4", "ab" * 32)
    assert found["dataset"] == META


def test_the_index_counts_and_measures_what_is_there(tmp_path):
    shards = make_shards(tmp_path / "pool", 10)
    sizes = [picture(number)[1].shape for number in range(10)]
    ids = "\n".join(f"a.{number:03d}" for number in range(10))
    assert shards.index.samples.model_dump(exclude={"sha256"}) == {
        "count": 10,
        "with_mask": 10,
        "largest": (max(height for height, _ in sizes), max(width for _, width in sizes)),
        "most_pixels": max(height * width for height, width in sizes),
        "ids_sha256": sha256(ids.encode()).hexdigest(),
    }
