from __future__ import annotations

import pytest
import timm
import tiny_data
import torch

from rc2l_bench.config import NetConfig
from rc2l_bench.errors import UsageError
from rc2l_bench.nets.backbone import Backbone
from rc2l_bench.nets.pixel_net import PixelNet


def config(**changes) -> NetConfig:
    return tiny_data.protocol(net=changes).net


def drawn_image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_the_deepest_features_have_the_output_stride(stride):
    image = drawn_image(2, 3, 64, 96)
    maps = Backbone(config(output_stride=stride)).eval()(image)
    assert [64 // m.shape[-2] for m in maps] == [4, min(8, stride), min(16, stride), stride]
    assert [96 // m.shape[-1] for m in maps] == [4, min(8, stride), min(16, stride), stride]


def test_the_channels_are_those_that_are_stated():
    backbone = Backbone(config())
    maps = backbone.eval()(drawn_image(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == backbone.channels


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_logits_have_the_size_of_the_image(stride, size):
    net = PixelNet(config(output_stride=stride), 5).eval()
    assert net(drawn_image(2, 3, *size)).shape == (2, 5, *size)


def test_one_image_can_be_trained():
    net = PixelNet(config(output_stride=32), 3).train()
    net(drawn_image(1, 3, 64, 32)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("backbone", ["mobilenetv2_100", "resnet18", "convnext_atto"])
def test_other_backbones_fit(backbone):
    net = PixelNet(config(backbone=backbone, output_stride=32), 3).eval()
    assert net(drawn_image(1, 3, 64, 64)).shape == (1, 3, 64, 64)


def test_images_are_normalised_as_the_backbone_expects():
    backbone = Backbone(config()).eval()
    mean, std = (timm.models.get_pretrained_cfg_value("test_resnet", name) for name in ("mean", "std"))
    image = drawn_image(1, 3, 32, 32)
    by_hand = (image - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert all(torch.equal(a, b) for a, b in zip(backbone(image), backbone.features(by_hand), strict=True))


def test_the_statistics_are_not_part_of_the_weights():
    assert not {"backbone.mean", "backbone.std"} & set(PixelNet(config(), 3).state_dict())


def test_the_same_seed_gives_the_same_net():
    def state() -> list[torch.Tensor]:
        torch.manual_seed(5)
        return list(PixelNet(config(), 3).state_dict().values())

    assert all(torch.equal(a, b) for a, b in zip(state(), state(), strict=True))


def test_decoding_the_encoded_is_the_forward_pass():
    net = PixelNet(config(), 3).eval()
    image = drawn_image(2, 3, 32, 64)
    features = net.decode(*net.encode(image))
    assert features.shape == (2, net.width, 8, 16)
    assert torch.equal(net.classify(features, (32, 64)), net(image))


def test_an_unknown_backbone_names_the_nearest():
    with pytest.raises(UsageError, match="timm has no model 'resnet5'; did you mean 'resnet50'"):
        Backbone(config(backbone="resnet5"))
