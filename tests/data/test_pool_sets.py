"""The summary of extra images: whole, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pool_data import EXTRA, listed, write_far

from rc2l_bench.data.pool_sets import open_sets
from rc2l_bench.readers import DamagedFileError
from rc2l_bench.seals import seal


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    return write_far(tmp_path, monkeypatch)


def test_a_summary_of_another_version_is_one_line(here):
    listed("far/t-0.tar")
    (EXTRA / "pool.json").write_bytes(seal({"sets": "many", "stream": None}))
    with pytest.raises(DamagedFileError, match=r"pool\.json: no summary of a pool .*delete the folder"):
        open_sets(EXTRA)


def test_a_summary_that_was_changed_is_refused(here):
    listed("far/t-0.tar")
    path = EXTRA / "pool.json"
    path.write_text(path.read_text().replace("t-0", "t-1"))
    with pytest.raises(DamagedFileError, match=r"pool\.json: .*delete the folder and run the stages again"):
        open_sets(EXTRA)
