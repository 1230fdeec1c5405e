"""Methods side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from method_data import ROOT, make_protocol
from tiny_data import RUNTIME

from rc2l_bench.config import Params, Runtime, load
from rc2l_bench.cost.measurement import PARTS, estimate, measure, middle, ratio, scale_protocol, whole_training
from rc2l_bench.cost.worker import trust
from rc2l_bench.errors import BenchError
from rc2l_bench.methods.contract import load_config

TINY_RUNTIME = Runtime.model_validate_json(json.dumps(RUNTIME))


@pytest.fixture(autouse=True)
def checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_only_what_is_asked_for_differs_from_the_protocol():
    params = load(Params, Path("params.yaml"))
    there = params.protocol_of("voc")
    asked = scale_protocol(params, "voc", "resnet101", (513, 300), 4)
    assert (asked.net.backbone, asked.crop, asked.batch.labelled, asked.batch.unlabelled) == (
        "resnet101",
        (513, 300),
        4,
        4,
    )
    back = {"net": there.net, "crop": there.crop, "batch": there.batch}
    assert asked.model_copy(update=back) == there
    assert asked.net.model_copy(update={"backbone": there.net.backbone, "weights": there.net.weights}) == there.net


def test_ratios_are_taken_within_a_round():
    fast, slow = [{"step": {"s": s}} for s in (1, 10, 2)], [{"step": {"s": s}} for s in (3, 20, 8)]
    assert middle(fast, "step", "s") == 2
    assert ratio(slow, fast, "step", "s") == 3


def test_a_whole_training_has_the_steps_of_the_protocol_and_the_pace_of_the_middle_round():
    answers = [{"step_seconds": {"median": seconds}} for seconds in (9.0, 0.5, 0.25)]
    assert whole_training("baselines/supervised", make_protocol(steps=40), answers) == 20


def test_trust_lowers_the_thresholds_of_a_method_and_leaves_its_views():
    before, after = load_config("baselines/u2pl"), trust(load_config("baselines/u2pl"))
    assert after.contrast.probability == 0
    assert after.views == before.views
    assert trust(load_config("baselines/fixmatch")).threshold == 0


@pytest.mark.slow
def test_every_method_is_measured_in_every_round():
    methods = ["baselines/supervised", "rc2l_bench/methods/rc2l"]
    told: list[str] = []
    found = measure(methods, make_protocol(), TINY_RUNTIME, 5, rounds=2, steps=2, told=told.append)
    assert [text.split(": ")[1] for text in told] == methods * 2
    for answers in found.values():
        assert len(answers) == 2
        for one in answers:
            assert one["steps"] == 2
            assert sum(one["parts"][part] for part in PARTS) <= 1.2 * one["steps"] / 2 * one["seconds"]
            assert one["peak_memory"]["resident_mb"] > one["peak_memory"]["allocated_mb"] > 0
    assert ratio(found[methods[1]], found[methods[0]], "peak_memory", "allocated_mb") > 1


@pytest.mark.slow
def test_an_estimate_at_paper_scale_needs_no_such_machine():
    protocol = scale_protocol(load(Params, Path("params.yaml")), "voc", "resnet101", (513, 513), 8)
    found = estimate("rc2l_bench/methods/rc2l", protocol, 21)
    assert sum(found["memory"].values()) > 10e9
    assert found["real_mb"] < 4000


@pytest.mark.slow
def test_a_process_that_fails_says_why_in_one_line():
    protocol = make_protocol(net__backbone="no_such_net")
    with pytest.raises(
        BenchError, match=r"^baselines/supervised: its cost could not be found: .*no_such_net"
    ) as caught:
        estimate("baselines/supervised", protocol, 5)
    assert "\n" not in str(caught.value)
