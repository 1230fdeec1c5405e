"""The levels that are taken of timm's extractors, and one line where there are none that fit."""

from __future__ import annotations

import pytest
import tiny_data
import torch
from timm.models import create_model

from rc2l_bench.config import NetConfig
from rc2l_bench.errors import UsageError
from rc2l_bench.nets.backbone import Backbone
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.nets.region_net import RegionNet

DILATED = ("test_resnet", "test_convnext", "test_efficientnet", "mobilenetv2_100")
"""Models that can have any output stride."""
OWN_STRIDE = {
    "dla34": [64, 128, 256, 512],
    "swin_tiny_patch4_window7_224": [96, 192, 384, 768],
    "pvt_v2_b0": [32, 64, 160, 256],
    "tiny_vit_5m_224": [64, 128, 160, 320],
    "fastvit_t8": [48, 96, 192, 384],
    "repvit_m0_9": [48, 96, 192, 384],
    "densenet121": [256, 512, 1024, 1024],
}
"""Channels of models that have output stride 32 and no other."""


def net(backbone: str, stride: int = 32) -> NetConfig:
    return tiny_data.protocol(net={"backbone": backbone, "output_stride": stride}).net


def shapes(backbone: Backbone, height: int = 96, width: int = 160) -> list[tuple[int, ...]]:
    with torch.no_grad():
        return [tuple(x.shape[1:]) for x in backbone.eval()(torch.rand(2, 3, height, width))]


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("name", DILATED)
def test_a_backbone_that_can_be_dilated_has_the_output_stride_that_is_asked_for(name, stride):
    found = Backbone(net(name, stride))
    steps = [min(step, stride) for step in (4, 8, 16, 32)]
    assert shapes(found) == [(c, 96 // s, 160 // s) for c, s in zip(found.channels, steps, strict=True)]


@pytest.mark.parametrize("name", OWN_STRIDE)
def test_a_backbone_that_cannot_be_dilated_gives_its_four_levels_down_to_stride_32(name):
    found = Backbone(net(name))
    assert found.channels == OWN_STRIDE[name]
    assert shapes(found) == [(c, 96 // s, 160 // s) for c, s in zip(OWN_STRIDE[name], (4, 8, 16, 32), strict=True)]


@pytest.mark.parametrize("name", ["dla34", "pvt_v2_b0", "hrnet_w18_small"])
def test_a_stride_that_a_backbone_cannot_have_is_said_in_words(name):
    """timm raises a TypeError, or an assertion without a text."""
    with pytest.raises(UsageError, match=rf"^net\.output_stride: {name} cannot have 16, only its own, 32: write that"):
        Backbone(net(name, 16))


@pytest.mark.parametrize("kind", [PixelNet, RegionNet])
@pytest.mark.parametrize("name", ["dla34", "swin_tiny_patch4_window7_224"])
def test_both_networks_stand_on_such_a_backbone(name, kind):
    found = kind(net(name), 3).train()
    image = torch.rand(2, 3, 64, 96)
    logits = found(image)
    assert logits.shape == (2, 3, 64, 96)
    logits.square().mean().backward()
    stem = next(found.backbone.features.parameters())
    assert stem.grad is not None
    assert bool(stem.grad.isfinite().all())


@pytest.mark.parametrize("name", ["maxvit_tiny_tf_224", "coat_tiny", "inception_v4", "mixer_s16_224"])
def test_a_backbone_that_cannot_serve_is_refused_in_one_line(name):
    with pytest.raises(UsageError, match=rf"^net\.backbone: {name}") as caught:
        Backbone(net(name))
    assert "\n" not in str(caught.value)


def test_what_comes_back_is_looked_at_and_not_what_is_promised(monkeypatch):
    """As of an extractor that drops its deepest level."""

    def create(name: str, **options):
        made = create_model(name, **options)
        if "out_indices" in options:
            made.forward = lambda _: [torch.zeros(1, c, 16, 24) for c in made.feature_info.channels()]
        return made

    monkeypatch.setattr("rc2l_bench.nets.features.timm.create_model", create)
    with pytest.raises(UsageError, match=r"its map at stride 8 is \d+×16×24 for an image of 64×96, not \d+×8×12$"):
        Backbone(net("test_resnet"))


def test_trying_a_backbone_draws_no_numbers_and_leaves_it_in_train_mode():
    torch.manual_seed(0)
    create_model("test_resnet", features_only=True)
    create_model("test_resnet", features_only=True, out_indices=[1, 2, 3, 4])
    expected = torch.rand(3)
    torch.manual_seed(0)
    found = Backbone(net("test_resnet"))
    assert torch.equal(torch.rand(3), expected)
    assert all(module.training for module in found.features.modules())
