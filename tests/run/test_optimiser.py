"""Learning rates of the layers of a backbone."""

from __future__ import annotations

import pytest
import tiny_data
from method_data import make

from rc2l_bench.run.optimiser import build_optimiser


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
