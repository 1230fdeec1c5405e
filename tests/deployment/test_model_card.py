"""The model card: hubs read it, its lines of code run, and it says what one has to know."""

from __future__ import annotations

import dataclasses
import json

import pytest
import tiny_data
from huggingface_hub import ModelCard
from tiny_data import pictures

from rc2l_bench.deployment.loading import LoadedRun, load_run
from rc2l_bench.deployment.model_card import write_card
from rc2l_bench.deployment.model_facts import collect_facts


@pytest.mark.slow
def test_a_hub_reads_the_card(exported_regions, region_run):
    card = ModelCard((exported_regions / "regions.onnx.md").read_text())
    metrics = json.loads((region_run / "metrics.json").read_text())
    assert (card.data.license, card.data.pipeline_tag, card.data.library_name) == (
        "other",
        "image-segmentation",
        "onnx",
    )
    found = {(result.dataset_split, result.metric_type): result.metric_value for result in card.data.eval_results}
    assert found == {("val", "mean_iou"): metrics["miou"], ("test", "mean_iou"): metrics["test"]["miou"]}
    assert "rc2l_bench/methods/rc2l" in card.text
    assert f"Fingerprint `{load_run(region_run).record['fingerprint']}`" in card.text


@pytest.mark.slow
def test_the_three_lines_of_the_card_run(exported_regions, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(exported_regions)
    Image.fromarray(pictures(1, 40, 48)[0]).save("photo.jpg", quality=95)
    code = (exported_regions / "regions.onnx.md").read_text().split("```python\n")[1].split("```")[0]
    place: dict = {}
    assert len(code.strip().splitlines()) == 3
    exec(code, place)
    assert place["classes"].shape == (40, 48)


@pytest.fixture
def run(pixel_run) -> LoadedRun:
    return load_run(pixel_run, "cpu")


def card_of(run: LoadedRun, **changes) -> str:
    facts = collect_facts(run, "torch", [(18, 27), (32, 32)], 3.2e-6) | changes
    return write_card(run, facts, "net.pt2")


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n\n")[1].split("\n\n## ")[0]


def seen_through(run: LoadedRun, **rule) -> LoadedRun:
    return dataclasses.replace(run, protocol=tiny_data.protocol(eval={"protocol": rule}))


def test_a_card_of_a_torch_file_opens_it_with_torch(run):
    card = card_of(run)
    assert ModelCard(card).data.library_name == "pytorch"
    assert 'torch.export.load("net.pt2")' in section(card, "How to use it")


def test_a_network_that_was_scored_on_whole_pictures_needs_no_advice(run):
    feeding = section(card_of(run), "How to use it").split("```\n\n")[1]
    assert "any size from 18 × 18" in feeding
    assert "scored" not in feeding


@pytest.mark.parametrize(("rule", "advice"), [
    ({"mode": "center_crop", "window": [24, 30]}, "on the middle of pictures alone, 24 × 30 pixels, cut out before"),
    (
        {"mode": "sliding", "window": [32, 24], "stride": 0.5, "combine": "softmax"},
        "windows of 32 × 24 pixels, each 0.5 of a window after the last, whose results are combined (softmax)",
    ),
])  # fmt: skip
def test_how_else_it_was_scored_is_said(run, rule, advice):
    assert advice in section(card_of(seen_through(run, **rule)), "How to use it")


def test_scores_have_their_intervals_and_what_is_not_known_is_said(run):
    scores = {"val": {"miou": 0.51234, "interval": [0.4, 0.6], "images": 5}, "test": {"miou": 0.25, "interval": None}}
    assert section(card_of(run, scores=scores), "Scores").splitlines()[2:4] == [
        "| val | 51.2 | [40.0, 60.0], over 5 images |", "| test | 25.0 | unknown: no counts per image |",
    ]  # fmt: skip
    assert section(card_of(run, scores={}), "Scores") == "None is known."


def test_tuned_numbers_are_named(run):
    tuning = {"status": "tuned", "trials": 16, "numbers": {"lr": 0.01, "weight": 2.0}}
    assert "tuned in 16 trials: lr 0.01, weight 2." in section(card_of(run, tuning=tuning), "Method and protocol")
    assert "Its numbers were not tuned." in section(card_of(run), "Method and protocol")


def test_limits_are_those_of_the_run(run):
    plain = section(card_of(run), "Limits").splitlines()
    varied = dataclasses.replace(run, record=run.record | {"protocol_changes": {"steps": 3}})
    shapes = run.record["cell"] | {"dataset": "tuning-shapes"}
    assert len(plain) == 3
    assert section(card_of(varied), "Limits").splitlines()[3:] == [
        "- Its protocol differs from the declared one of the data set, see `run.json`."
    ]
    assert "drawn by a program" in section(card_of(run, cell=shapes), "Limits").splitlines()[3]


def test_names_of_classes_are_no_markup(run):
    strange = dataclasses.replace(run, classes=["<b>a", "b|c", "d_e"])
    assert r"one of 3: &lt;b&gt;a, b\|c, d\_e. It was" in section(card_of(strange), "What it is")


def test_images_that_nobody_can_count_are_a_stream(run):
    labels = {"labelled": 5, "unlabelled": None}
    assert "5 labelled images; a stream of images without labels" in section(
        card_of(run, labels=labels), "Data and labels"
    )
