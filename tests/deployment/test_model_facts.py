"""What stands beside an exported network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from types import SimpleNamespace

import pytest
import tiny_data
from report_data import reseal, write_run

from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.deployment.loading import LoadedRun, load_run
from rc2l_bench.deployment.model_facts import UNKNOWN_TERMS, collect_facts, read_scores, terms_of


@pytest.mark.slow
def test_the_json_says_how_to_use_the_file_and_what_it_scored(exported_regions, region_run):
    facts = json.loads((exported_regions / "regions.onnx.json").read_text())
    run = load_run(region_run)
    metrics = json.loads((region_run / "metrics.json").read_text())
    assert facts["sha256"] == hashlib.sha256((exported_regions / "regions.onnx").read_bytes()).hexdigest()
    assert facts["classes"] == run.classes
    assert facts["palette"] == [[0, 0, 0], [255, 0, 0], [0, 0, 255]]
    assert facts["fingerprint"] == run.record["fingerprint"]
    assert facts["input"]["shape"] == ["batch", "height", "width", 3]
    assert facts["evaluation"]["one_pass_is_as_scored"]
    score = facts["scores"]["val"]
    assert score["miou"] == metrics["miou"]
    assert score["interval"][0] < score["miou"] < score["interval"][1]
    assert (score["over"], score["images"]) == ("images", 5)
    assert "not known" in facts["licence_of_the_data"]
    assert facts["compared_with_the_network"]["largest_difference"] <= 1e-4


@pytest.fixture
def run(pixel_run) -> LoadedRun:
    return load_run(pixel_run, "cpu")


def test_facts_are_json_and_say_how_a_picture_is_fed(run):
    facts = collect_facts(run, "torch", [(18, 27)], 1e-6)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["input"]["least_height_and_width"] == 18
    assert facts["input"]["canvas"] == [40, 48]
    assert set(facts["outputs"]) == {"logits", "classes"}
    assert facts["compared_with_the_network"] == {"sizes": [[18, 27]], "largest_difference": 1e-6}


def test_one_pass_is_not_as_scored_where_windows_slide(run):
    rule = {"mode": "sliding", "window": [32, 32], "stride": 0.5, "combine": "softmax"}
    sliding = dataclasses.replace(run, protocol=tiny_data.protocol(eval={"protocol": rule}))
    found = [collect_facts(one, "torch", [], 0.0)["evaluation"]["one_pass_is_as_scored"] for one in (run, sliding)]
    assert found == [True, False]


def test_scores_of_both_parts_have_the_interval_of_their_images(run):
    scores = read_scores(run)
    assert {part: score["images"] for part, score in scores.items()} == {"val": 5, "test": 3}
    for score in scores.values():
        assert score["interval"][0] < score["miou"] < score["interval"][1]


def test_without_counts_per_image_a_score_has_no_interval(tmp_path):
    folder = write_run(tmp_path)
    (folder / "confusion.npz").unlink()
    reseal(folder)
    record = json.loads((folder / "run.json").read_text())
    bare = SimpleNamespace(folder=folder, record=record)
    assert read_scores(bare) == {
        "val": {"miou": json.loads((folder / "metrics.json").read_text())["miou"], "interval": None}
    }


def test_terms_are_those_that_the_data_set_states(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert terms_of("camvid") == load_dataset("camvid").licence
    assert terms_of("nobodys") == UNKNOWN_TERMS
