"""Lists of shards for other tools: what they say is what the `webdataset` library finds in the tars."""

from __future__ import annotations

import json

import pytest
import webdataset
from shards_data import make_shards
from typer.testing import CliRunner

from rc2l_bench.cli.app import app
from rc2l_bench.data.shard_lists import export_lists
from rc2l_bench.errors import UsageError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library closes no tar
def test_both_lists_count_what_is_in_the_tars(tmp_path):
    shards = make_shards(tmp_path / "pool", 10)
    done = CliRunner().invoke(app, ["shards", "export", str(shards.folder), str(tmp_path / "out")])
    assert done.exit_code == 0
    wids = json.loads((tmp_path / "out/wids.json").read_text())
    assert (wids["__kind__"], wids["wids_version"]) == ("wids-shard-index-v1", 1)
    for shard in wids["shardlist"]:
        with webdataset.WebDataset(shard["url"], shardshuffle=False) as tar:
            assert sum(1 for _ in tar) == shard["nsamples"]
        assert (tmp_path / "pool" / shard["url"]).stat().st_size == shard["filesize"]
    sizes = json.loads((tmp_path / "out/sizes.json").read_text())
    assert sizes == {"train-000000.tar": 4, "train-000001.tar": 4, "train-000002.tar": 2}
    assert [shard["nsamples"] for shard in wids["shardlist"]] == list(sizes.values())


@pytest.mark.parametrize("base", ["https://a.org/x", "https://a.org/x/", "https://a.org/x/?sig=${KEY}"])
def test_tars_may_be_said_to_be_elsewhere(tmp_path, base):
    export_lists(make_shards(tmp_path / "pool", 3), tmp_path / "out", base)
    found = json.loads((tmp_path / "out/wids.json").read_text())["shardlist"][0]["url"]
    assert found == "https://a.org/x/train-000000.tar" + "?sig=${KEY}" * ("?" in base)


def test_where_there_is_no_tar_there_is_no_list(tmp_path):
    with pytest.raises(UsageError, match="pool: these hold no sample, there is no tar to list"):
        export_lists(make_shards(tmp_path / "pool", 0), tmp_path / "out", None)
    assert not (tmp_path / "out").exists()
