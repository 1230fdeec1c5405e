"""The stage `protocol`: a file that changes when a training has to be looked at again."""

from __future__ import annotations

import json

import pytest
import tiny_data
import yaml

from pipelines.protocol import SECTIONS, main
from rc2l_bench.recipes import overlay


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(here, **changes) -> bytes:
    tiny_data.write_yaml(here / "params.yaml", overlay(tiny_data.params(), changes))
    main(here / "data/protocol.json")
    return (here / "data/protocol.json").read_bytes()


def test_it_holds_what_stands_in_params(here):
    found = json.loads(written(here))
    assert set(found) == set(SECTIONS)
    assert found["protocol"] == tiny_data.params()["protocol"]


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": {"default": {"steps": 13}}},
        {"runtime": {"threads": 2}},
        {"recipes": {"more": tiny_data.PROTOCOL}},
        {"eval": {"corruptions": ["blur"]}},
    ],
)
def test_what_a_training_reads_changes_it(here, changes):
    assert written(here) != written(here, **changes)


def test_dvc_watches_what_it_holds():
    stages = yaml.safe_load((tiny_data.ROOT / "dvc.yaml").read_text())["stages"]
    assert stages["protocol"]["params"] == list(SECTIONS)


@pytest.mark.parametrize(
    "changes", [{"split": {"seed": 3}}, {"shard": {"samples_per_shard": 8}}, {"grid": {"seed": [1]}}]
)
def test_what_no_training_reads_does_not(here, changes):
    assert written(here) == written(here, **changes)


def test_wrong_params_are_told_in_one_line(here, capsys):
    with pytest.raises(SystemExit) as error:
        written(here, runtime={"threads": 0})
    assert error.value.code == 2
    assert "params.yaml: runtime.threads" in capsys.readouterr().err
    assert not (here / "data").exists()
