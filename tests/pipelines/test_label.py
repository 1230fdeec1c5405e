"""The stage `label`."""

from __future__ import annotations

from pathlib import Path

import pytest
from shards_data import Packed

from pipelines import label
from rc2l_bench.data import splits
from rc2l_bench.data.packing import verify
from rc2l_bench.data.splits import Split, TrainingImages, split_id

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(label, "load_dataset", lambda _: Packed())


def write_split(path: Path, labelled: list[str]) -> Path:
    train = TrainingImages(count=12, ids_sha256="ab" * 32)
    plan = Split(
        dataset="tiny", name="1_4", labelled=tuple(labelled), unlabelled=None, train=train, pixels={}, provenance={}
    )
    splits.write(plan, path)
    return path


def test_labelled_shards_hold_the_samples_of_their_split(here, tmp_path):
    split = write_split(tmp_path / "split.json", ["a.002", "a.007", "a.011"])
    label.main("tiny", tmp_path / "raw", split, tmp_path / "labelled")
    shards = verify(tmp_path / "labelled")
    assert (list(shards.ids), shards.labelled) == (["a.002", "a.007", "a.011"], True)
    assert (shards.index.split, shards.index.split_id) == ("1_4", split_id(["a.002", "a.007", "a.011"]))


def test_a_list_lies_on_the_disk_once_for_all_seeds(here, tmp_path):
    for seed, ids in enumerate((["a.002", "a.007"], ["a.003", "a.007"], ["a.002", "a.007"])):
        split = write_split(tmp_path / f"{seed}.json", ids)
        label.main("tiny", tmp_path / "raw", split, tmp_path / f"labelled/seed{seed}")
    tars = [next((tmp_path / f"labelled/seed{seed}").glob("*.tar")) for seed in range(3)]
    assert tars[2].samefile(tars[0])
    assert not tars[1].samefile(tars[0])
    assert list(verify(tmp_path / "labelled/seed2").ids) == ["a.002", "a.007"]


def test_a_split_with_an_image_that_is_not_there_fails_and_leaves_nothing(here, tmp_path, capsys):
    split = write_split(tmp_path / "split.json", ["a.002", "nobody"])
    with pytest.raises(SystemExit) as error:
        label.main("tiny", tmp_path / "raw", split, tmp_path / "labelled")
    assert error.value.code == 1
    assert "has no training image 'nobody', which the split counts as labelled" in capsys.readouterr().err
    assert not (tmp_path / "labelled").exists()
