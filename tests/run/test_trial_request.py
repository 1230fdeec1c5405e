"""What a trial of `tune` is asked, and what it has answered."""

from __future__ import annotations

import json

import pytest

from rc2l_bench.run.cell import open_cell
from rc2l_bench.run.trial_request import has_diverged, open_trial

ASKED = {
    "dataset": "tiny", "split": "1_4", "method": "baselines/fixmatch", "seed": 0, "shards": "data/shards/tiny",
    "plan": "data/splits/tiny/1_4/seed0.json", "numbers": {"lr": 0.125, "weight": 0.25},
}  # fmt: skip


@pytest.fixture
def here(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    return checkout


def test_a_trial_is_a_run_with_the_numbers_that_were_drawn(here):
    provenance = open_trial(ASKED).provenance()
    assert provenance["tuning"]["numbers"] == ASKED["numbers"]
    assert provenance["method_config"]["weight"] == 0.25


def test_every_number_moves_the_fingerprint(here):
    names = {
        open_trial(ASKED | {"numbers": numbers}).provenance()["fingerprint"]
        for numbers in ({"lr": 0.125, "weight": 0.25}, {"lr": 0.25, "weight": 0.25}, {"lr": 0.125, "weight": 0.5})
    }
    assert len(names) == 3


def test_the_cell_is_the_one_that_was_asked_for(here):
    trial = open_trial(ASKED | {"seed": 1, "plan": "data/splits/tiny/1_4/seed1.json"}).provenance()
    plain = open_cell(
        "tiny", "1_4", "baselines/fixmatch", 1, here / "data/shards/tiny", here / "data/splits/tiny/1_4/seed1.json"
    ).provenance()
    assert trial["cell"] == plain["cell"]
    assert trial["shards"] == plain["shards"]


@pytest.mark.parametrize(("answer", "diverged"), [
    (None, False),
    ({"fingerprint": "f", "diverged": True}, True),
    ({"fingerprint": "f", "diverged": False}, False),
    ({"fingerprint": "g", "diverged": True}, False),
    ({}, False),
])  # fmt: skip
def test_a_trial_has_diverged_where_its_own_answer_says_so(tmp_path, answer, diverged):
    path = tmp_path / "0.json"
    if answer is not None:
        path.write_text(json.dumps(answer))
    assert has_diverged(path, "f") == diverged
