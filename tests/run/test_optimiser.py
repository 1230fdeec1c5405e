from __future__ import annotations

import pytest
import tiny_data
import torch

from rc2l_bench.methods.contract import Method, build, load_config
from rc2l_bench.run.optimiser import build_optimiser, evaluation_steps, learning_rate


def supervised() -> Method:
    name = "baselines/supervised"
    return build(name, load_config(name), tiny_data.protocol(), 3)


def test_the_learning_rate_falls_by_the_poly_rule():
    optimiser = tiny_data.protocol(optimiser={"lr": 0.5, "power": 0.9}).optimiser
    assert learning_rate(optimiser, 0, 10) == 0.5
    assert learning_rate(optimiser, 4, 10) == pytest.approx(0.5 * 0.6**0.9)
    assert learning_rate(optimiser, 9, 10) > 0


def test_power_zero_keeps_the_learning_rate():
    optimiser = tiny_data.protocol(optimiser={"lr": 0.5, "power": 0.0}).optimiser
    assert {learning_rate(optimiser, step, 10) for step in range(10)} == {0.5}


@pytest.mark.parametrize(
    ("steps", "evaluations", "after"),
    [(100, 4, {25, 50, 75, 100}), (10, 3, {4, 7, 10}), (5, 1, {5}), (3, 10, {1, 2, 3}), (1, 1, {1})],
)
def test_evaluations_are_evenly_spaced_and_the_last_is_at_the_end(steps, evaluations, after):
    assert evaluation_steps(steps, evaluations) == after


def test_heads_learn_faster_than_backbones():
    method = supervised()
    optimiser = build_optimiser(method, tiny_data.protocol(optimiser={"head_lr": 10.0}).optimiser)
    assert [group["lr_scale"] for group in optimiser.param_groups] == [1.0, 10.0]


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_the_optimiser_is_the_one_of_the_protocol(name, kind):
    config = tiny_data.protocol(optimiser={"name": name, "momentum": 0.8, "weight_decay": 0.25}).optimiser
    optimiser = build_optimiser(supervised(), config)
    assert type(optimiser) is kind
    group = optimiser.param_groups[0]
    assert group["weight_decay"] == 0.25
    assert group.get("momentum", group.get("betas", [0])[0]) == 0.8
