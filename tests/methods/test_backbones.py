"""Backbones of many families under both networks: what training, prediction and estimates ask of them."""

from __future__ import annotations

import pytest
import torch
from method_data import CLASSES, METHODS, make, make_batch, make_config, make_protocol

from rc2l_bench.cost.symbolic import estimate_step

HIERARCHICAL = (
    "edgenext_xx_small", "efficientvit_b0", "fasternet_t0", "mobilenetv3_small_050", "pvt_v2_b0", "starnet_s050",
    "swin_tiny_patch4_window7_224", "test_byobnet", "test_convnext", "test_efficientnet", "test_mambaout",
)  # fmt: skip
"""Have levels at strides 4, 8, 16, 32."""
COARSE = ("csatv2", "efficientvit_m0")
"""Begin at stride 8 or 16."""
PLAIN = (
    "deit_tiny_patch16_224", "eva02_tiny_patch14_224", "test_vit", "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3", "xcit_nano_12_p8_224",
)  # fmt: skip
"""Have one stride."""
NETWORKS = ("baselines/supervised", "baselines/supervised_region")


def on(backbone: str) -> dict[str, object]:
    return {"net__backbone": backbone, "net__output_stride": 32}


@pytest.mark.parametrize("method", NETWORKS)
@pytest.mark.parametrize("backbone", HIERARCHICAL + COARSE + PLAIN)
def test_a_backbone_learns_in_all_its_parts_and_predicts_at_odd_sizes(backbone, method):
    learner = make(method, **on(backbone))
    loss = torch.stack(list(learner(make_batch(learner), 0.5).values())).sum()
    loss.backward()
    assert loss.isfinite()
    without = [name for name, p in learner.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    with torch.no_grad():
        scores = learner.eval().predict(torch.rand(1, 3, 61, 97))
    assert scores.shape == (1, CLASSES, 61, 97)
    assert scores.isfinite().all()


@pytest.mark.parametrize("backbone", ["eva02_tiny_patch14_224", "pvt_v2_b0", "test_vit"])
def test_a_step_is_estimated_without_values(backbone):
    protocol = make_protocol(**on(backbone), crop=[64, 64])
    found = estimate_step(NETWORKS[0], make_config(NETWORKS[0]), protocol, CLASSES)
    assert found.memory["parameters"] > 0
    assert found.flops > 0


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_on_a_plain_transformer(method):
    learner = make(method, **on("test_vit"))
    losses = learner(make_batch(learner), 0.9)
    torch.stack(list(losses.values())).sum().backward()
    learner.after_step()
    assert all(value.isfinite() for value in losses.values())
