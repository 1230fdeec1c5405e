from __future__ import annotations

import pytest
import tiny_data
import torch
from method_data import make

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


def scales(method: str, backbone: str, decay: float) -> dict[str, float]:
    """The multiple of the learning rate that every parameter of the student gets."""
    learner = make(method, net__backbone=backbone, net__output_stride=32)
    config = tiny_data.protocol(optimiser={"layer_decay": decay, "head_lr": 10.0}).optimiser
    optimiser = build_optimiser(learner, config)
    by_id = {id(p): group["lr_scale"] for group in optimiser.param_groups for p in group["params"]}
    return {name: by_id[id(p)] for name, p in learner.named_parameters() if p.requires_grad}


def test_each_layer_of_a_transformer_learns_slower_than_the_one_above():
    found = scales("baselines/supervised", "test_vit", 0.5)
    start = "student.backbone.features.model."
    assert [found[f"{start}blocks.{i}.norm1.weight"] for i in range(6)] == [0.5**depth for depth in (5, 4, 3, 2, 1, 0)]
    assert found[f"{start}norm.weight"] == 1.0
    assert (
        found[f"{start}cls_token"] == found[f"{start}pos_embed"] == found[f"{start}patch_embed.proj.weight"] == 0.5**6
    )
    assert {scale for name, scale in found.items() if ".backbone." not in name} == {10.0}


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_stages_of_convolutions_are_layers_too(backbone):
    found = scales("baselines/supervised", backbone, 0.5)
    backbones = [scale for name, scale in found.items() if ".backbone." in name]
    assert max(backbones) == 1.0
    assert backbones == sorted(backbones), "deeper parameters come later and learn faster"
    assert len(set(backbones)) >= 4


def test_both_networks_of_a_method_are_taken_apart():
    found = scales("baselines/cps", "test_vit", 0.5)
    assert [found[f"{net}.backbone.features.model.cls_token"] for net in ("student", "second")] == [0.5**6] * 2
