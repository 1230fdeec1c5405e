"""The stage `split`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lists_data import list_checkout

from pipelines.split import main as stage


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return list_checkout(tmp_path, monkeypatch)


def test_the_stage_writes_drawn_and_published_splits(checkout: Path) -> None:
    for name, count in (("1_4", 5), ("3", 3)):
        out = checkout / f"data/splits/voc/{name}.json"
        stage("voc", name, 0, Path("data/catalog/voc.csv"), out)
        assert len(json.loads(out.read_text())["labelled"]) == count
        stage("voc", name, 1, Path("data/catalog/voc.csv"), checkout / "other.json")
        assert (json.loads(out.read_text())["id"] != json.loads((checkout / "other.json").read_text())["id"]) == (
            name == "1_4"
        )
    with pytest.raises(SystemExit) as info:
        stage("voc", "others_3", 0, Path("data/catalog/voc.csv"), checkout / "x.json")
    assert info.value.code == 2
    assert not (checkout / "x.json").exists()
