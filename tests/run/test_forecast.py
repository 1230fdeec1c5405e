from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import report_data
import run_data
import tiny_data
from commands_data import call

from rc2l_bench.config import Params, load, stated
from rc2l_bench.report.results import find
from rc2l_bench.run.forecast import PARTS, Forecast, differences, forecast_cells, longest_first, seconds_per_step
from rc2l_bench.run.pipeline import cell_stages
from rc2l_bench.seals import read_record
from rc2l_bench.sources import FACTS
from rc2l_bench.tuning import digest_inputs

METHOD = "baselines/supervised"
SHORT = {"default": {"steps": 4}}


def item(seed: int = 0, method: str = METHOD) -> dict[str, str]:
    return {"dataset": "tiny", "split": "1_4", "method": method, "seed": str(seed)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A checkout with a finished run, whose stages of the data are up to date."""
    root = tmp_path_factory.mktemp("trained")
    tiny_data.write_checkout(root)
    (root / "datasets").mkdir()
    (root / "photos").mkdir()
    described = {"images": "photos", "classes": ["a", "b"], "masks": "masks"}
    (root / "datasets/tiny.yaml").write_text(json.dumps(described))
    run_data.train(root, METHOD, protocol=SHORT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for stage in cell_stages(item())[:-1]:
            for out in (out for out in stage.outs if not out.exists()):
                out.parent.mkdir(parents=True, exist_ok=True)
                out.mkdir() if not out.suffix else out.write_text("")
    return root


@pytest.fixture
def checkout(trained, monkeypatch) -> Path:
    """The same, as the present folder, with the parameters that the run was trained with."""
    monkeypatch.chdir(trained)
    tiny_data.write_yaml(trained / "params.yaml", tiny_data.params(protocol=SHORT))
    # The files of the user are what the stage `scan` would see.
    monkeypatch.setattr("rc2l_bench.run.forecast.render_inputs", lambda _: b"")
    return trained


def look(seed: int = 0, method: str = METHOD) -> Forecast:
    return forecast_cells([item(seed, method)], load(Params, Path("params.yaml")))[0]


def test_a_result_of_the_present_fingerprint_is_up_to_date(checkout):
    found = look()
    assert (found.state, found.trains, found.seconds) == ("up to date", False, 0.0)


def test_a_cell_without_a_result_is_new_and_takes_as_long_as_others_of_its_method(checkout):
    cost = json.loads((checkout / "runs/tiny/1_4/baselines/supervised/seed0/cost.json").read_text())
    found = look(seed=1)
    assert (found.state, found.trains) == ("new", True)
    assert found.seconds == pytest.approx(cost["seconds"])
    assert found.memory_mb == cost["peak_memory"]["allocated_mb"]


def test_other_numbers_are_told_by_name_and_value(checkout):
    changed = {"default": {"steps": 8, "optimiser": {"lr": 0.1}}}
    tiny_data.write_yaml(checkout / "params.yaml", tiny_data.params(protocol=changed))
    found = look()
    assert found.state == "stale"
    assert "protocol (steps 4 → 8, optimiser.lr 0.003 → 0.1)" in found.reasons
    cost = json.loads((checkout / "runs/tiny/1_4/baselines/supervised/seed0/cost.json").read_text())
    assert found.seconds == pytest.approx(2 * cost["seconds"])


def test_the_longest_training_comes_first_and_an_unknown_one_before_it(checkout, tmp_path):
    methods = [METHOD, "baselines/cps", "baselines/u2pl"]
    seconds = [
        json.loads((report_data.write_run(tmp_path, "tiny", "1_4", method) / "cost.json").read_text())["seconds"]
        for method in methods[:2]  # nothing is known of the third
    ]
    assert seconds[0] < seconds[1]
    items = [item(seed, method) for method in methods for seed in (0, 1)]
    found = longest_first(items, load(Params, Path("params.yaml")), tmp_path)
    assert [(cell["method"], cell["seed"]) for cell in found] == [
        (method, seed) for method in ("baselines/u2pl", "baselines/cps", METHOD) for seed in ("0", "1")
    ]


def test_the_time_of_a_run_that_does_not_say_its_steps_is_unknown(checkout, tmp_path):
    place = report_data.write_run(tmp_path, "tiny", "1_4", METHOD)
    cost = json.loads((place / "cost.json").read_text())
    (place / "cost.json").write_text(json.dumps({key: value for key, value in cost.items() if key != "steps"}))
    report_data.reseal(place)
    runs, _ = find(tmp_path)
    assert len(runs) == 1
    assert math.isnan(seconds_per_step(runs, "tiny", METHOD, load(Params, Path("params.yaml"))))


def test_a_run_that_was_taken_away_is_in_the_store(checkout, tmp_path):
    place = checkout / "runs/tiny/1_4/baselines/supervised/seed0"
    place.rename(tmp_path / "seed0")
    try:
        assert look().state == "in the store"
    finally:
        (tmp_path / "seed0").rename(place)


def test_every_part_of_a_fingerprint_has_a_word(checkout):
    before, _ = read_record(checkout / "runs/tiny/1_4/baselines/supervised/seed0")
    assert "audited" in before
    assert set(before) - {*FACTS, "cell"} - set(PARTS) == set()
    other = {"source": "0" * 64, "shards": before["shards"] | {"val": "1" * 64}, "versions": {"torch": "1.0"}}
    found = differences(before | other, before)
    assert found[0] == "code"
    assert "data (val)" in found
    assert any(text.startswith("versions (torch 1.0 → ") for text in found)


def test_data_that_are_not_made_yet_come_first(checkout):
    found = forecast_cells([item() | {"split": "1_2"}], load(Params, Path("params.yaml")))[0]
    assert found.state == "new"
    assert found.reasons[0].startswith("data first: ")


def test_without_runs_the_time_comes_from_tuning(checkout, monkeypatch):
    params = load(Params, Path("params.yaml"))
    assert math.isnan(seconds_per_step([], "tiny", METHOD, params))
    (checkout / "tuned").mkdir()
    protocol = params.protocol_of("tuning-tiny")
    inputs = digest_inputs(METHOD, params.tuning_of("tiny"), stated(protocol))
    chosen = {"numbers": {"lr": 0.01}, "score": 0.5, "trials": 4, "diverged": 0, "seconds": 80.0, "inputs": inputs,
              "study": ""}  # fmt: skip
    settings = tiny_data.TUNING
    tiny_data.write_yaml(checkout / "tuned/tiny.yaml", {"settings": settings, "methods": {METHOD: chosen}})
    try:
        assert seconds_per_step([], "tiny", METHOD, params) == pytest.approx(80 / 4 / protocol.steps)
        tiny_data.write_yaml(checkout / "params.yaml", tiny_data.params(protocol={"default": {"steps": 80}}))
        assert math.isnan(seconds_per_step([], "tiny", METHOD, load(Params, Path("params.yaml"))))
    finally:
        (checkout / "tuned/tiny.yaml").unlink()
        (checkout / "tuned").rmdir()


def test_a_dry_run_shows_a_table_and_writes_nothing(checkout):
    tiny_data.write_yaml(checkout / "params.yaml", tiny_data.params(protocol={"default": {"steps": 8}}))
    before = {path: path.stat().st_mtime_ns for path in checkout.rglob("*") if "__pycache__" not in path.parts}
    options = ["--dataset", "tiny", "--split", "1_4", "--method", "supervised", "--seed", "0", "--seed", "1"]
    code, text = call("run", *options, "--dry-run")
    assert code == 0, text
    assert "protocol (steps 4 → 8)" in text
    assert "2 of 2 cells would be trained; about " in text
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path for path in checkout.rglob("*") if "__pycache__" not in path.parts} == set(before)
