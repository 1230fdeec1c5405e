"""The stage `fetch`."""

from __future__ import annotations

from pathlib import Path

import pytest
from folder_data import RAW, describe, write_images

from pipelines.fetch import main
from rc2l_bench.data.datasets.registry import load_dataset


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch) -> Path:
    """Ten images of the user."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path)
    describe("mine")
    return tmp_path


def test_the_folder_of_a_data_set_is_filled_once():
    main("mine", RAW)
    assert load_dataset("mine").present(RAW)
    before = {path: path.stat().st_mtime_ns for path in RAW.rglob("*")}
    main("mine", RAW)
    assert {path: path.stat().st_mtime_ns for path in RAW.rglob("*")} == before


def test_a_data_set_that_is_not_known_is_one_line_and_leaves_no_folder(capsys):
    with pytest.raises(SystemExit) as caught:
        main("mime", Path("data/raw/mime"))
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: unknown dataset 'mime': did you mean 'mine'?")
    assert said.count("\n") == 1
    assert not Path("data").exists()
