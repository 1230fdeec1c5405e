"""`rc2l-bench shards`."""

from __future__ import annotations

import json

from commands_data import call
from shards_data import make_shards


def test_the_files_that_were_written_are_told(tmp_path):
    make_shards(tmp_path / "pool", 5)
    code, text = call("shards", "export", str(tmp_path / "pool"), str(tmp_path / "out"), "--base", "https://a.org")
    assert (code, text.split()) == (0, [str(tmp_path / "out" / name) for name in ("wids.json", "sizes.json")])
    listed = json.loads((tmp_path / "out/wids.json").read_text())["shardlist"]
    assert [shard["url"] for shard in listed] == ["https://a.org/train-000000.tar", "https://a.org/train-000001.tar"]


def test_a_folder_without_shards_is_one_line_and_writes_nothing(tmp_path):
    code, text = call("shards", "export", str(tmp_path), str(tmp_path / "out"))
    assert (code, text.count("\n")) == (1, 1), text
    assert text.startswith(f"error: {tmp_path / 'index.json'}: ")
    assert not (tmp_path / "out").exists()
