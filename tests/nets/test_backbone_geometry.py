"""Where cells lie, and what becomes of sizes that a network does not take. Weights: see test_pixel_net."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_data
import torch
from torch import Tensor, nn

from rc2l_bench.config import NetConfig
from rc2l_bench.errors import UsageError
from rc2l_bench.nets import backbone as module
from rc2l_bench.nets.backbone import Backbone
from rc2l_bench.nets.lattice import Lattice, SizeRule
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.nets.region_net import RegionNet

ANY, LIKE = SizeRule(1, 0), [Lattice(4.0), Lattice(8.0), Lattice(16.0), Lattice(16.0)]
RECIPE_SIZES = [64, 65, (144, 192), 321, 512, 513, 500, 333]


def config(**changes) -> NetConfig:
    return tiny_data.protocol(net=changes).net


def pair(size) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


@pytest.mark.parametrize(
    ("backbone", "stride", "offsets", "sizes"),
    [
        ("test_resnet", 16, [0, 0, 0, 0], ANY),
        ("resnet18d", 8, [0, 0, 0, 0], ANY),  # has pooling shortcuts that pad by size, with stride 1
        ("mobilenetv2_100", 32, [0, 0, 0, 0], ANY),
        ("convnext_atto", 32, [1.5, 3.5, 7.5, 15.5], SizeRule(32, 0)),
        ("convnext_atto", 16, [1.5, 3.5, 7.5, 7.5], SizeRule(16, 0)),
        ("tf_mobilenetv3_small_minimal_100", 32, [0, 0, 0, 0], SizeRule(32, 1)),
    ],
)
def test_cells_lie_where_kernels_strides_and_padding_put_them(backbone, stride, offsets, sizes):
    net = Backbone(config(backbone=backbone, output_stride=stride))
    assert net.lattices == [Lattice(float(min(s, stride)), o) for s, o in zip((4, 8, 16, 32), offsets, strict=True)]
    assert net.sizes == sizes


def linear(features: nn.Module) -> nn.Module:
    """The same windows without anything that is not linear, and with one weight for all."""
    for parent in list(features.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
            elif isinstance(child, nn.ReLU | nn.ReLU6 | nn.BatchNorm2d) or "BatchNorm" in type(child).__name__:
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.Conv2d):
                nn.init.constant_(child.weight, 1 / child.weight[0].numel())
    return features.double()


@pytest.mark.parametrize(("backbone", "stride"), [("resnet18", 32), ("mobilenetv2_100", 16), ("regnetx_002", 32)])
def test_what_a_cell_sees_is_centred_where_its_lattice_says(backbone, stride):
    """The centre of mass of the gradient of one cell, in a network that weighs all pixels of a window alike.

    Shortcuts that average 2 x 2 cells (resnet18d, test_resnet) see half a cell further right than the convolutions
    beside them: such networks have no one centre, and their lattice is that of the convolutions.
    """
    net = Backbone(config(backbone=backbone, output_stride=stride))
    features, side = linear(net.features), 1025
    image = torch.rand(1, 3, 1, side, dtype=torch.float64).expand(-1, -1, side, -1).clone().requires_grad_()
    for x, lattice in zip(features(image), net.lattices, strict=True):
        cell = x.shape[-1] // 2
        (gradient,) = torch.autograd.grad(x[0, :, cell, cell].sum(), image, retain_graph=True)
        weight = gradient.sum((0, 1, 2))
        centre = (weight * torch.arange(side)).sum() / weight.sum()
        assert centre.item() == pytest.approx(lattice.stride * cell + lattice.offset, abs=0.01)


class Ramp(nn.Module):
    """In the place of a backbone: what every cell gives is the column and the row of its centre, over 1,000."""

    def __init__(self, lattices: list[Lattice]) -> None:
        super().__init__()
        self.lattices = lattices

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.cells(lattice, *image.shape[-2:]) for lattice in self.lattices]

    def cells(self, lattice: Lattice, height: int, width: int) -> Tensor:
        places = [lattice.offset + lattice.stride * torch.arange(lattice.cells(n)) for n in (height, width)]
        rows, columns = torch.meshgrid(*places, indexing="ij")
        return torch.stack([columns, rows])[None] / 1000


class Calling(nn.Module):
    """A part of a network that is a function."""

    def __init__(self, function: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Tensor:
        return self.function(x)


def expected(height: int, width: int) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, rows])[None] / 1000


TILES = [Lattice(4.0, 1.5), Lattice(8.0, 3.5), Lattice(16.0, 7.5), Lattice(32.0, 15.5)]


@pytest.mark.parametrize("lattices", [LIKE, TILES], ids=["convolutions", "patches"])
@pytest.mark.parametrize("size", RECIPE_SIZES)
def test_pixel_nets_show_a_ramp_where_it_is(lattices, size):
    height, width = pair(size)
    net = PixelNet(config(), 2)
    net.backbone, net.lattice = Ramp(lattices), lattices[0]
    net.aspp = net.low = net.fuse = net.classifier = nn.Identity()  # so the coarse and the fine ramp come out
    found = net(torch.zeros(1, 3, height, width))
    inside = (..., slice(20, height - 36), slice(20, width - 36))  # between the outermost centres
    wanted = expected(height, width).repeat(1, 2, 1, 1)
    torch.testing.assert_close(found[inside], wanted[inside], atol=1e-5, rtol=0)


@pytest.mark.parametrize("lattices", [LIKE, TILES], ids=["convolutions", "patches"])
@pytest.mark.parametrize("size", RECIPE_SIZES)
def test_region_nets_show_a_ramp_where_it_is(lattices, size):
    height, width = pair(size)
    net = RegionNet(config(), 2)
    net.backbone = Ramp(lattices)
    net.pixels = Calling(lambda maps: maps[0])
    net.queries = Calling(lambda _: torch.eye(2).expand(1, 1, -1, -1))  # query 0 sees columns, query 1 rows
    net.embed, net.classify = nn.Identity(), Calling(lambda queries: nn.functional.pad(queries * 1000, (0, 1)))
    scores = net(torch.zeros(1, 3, height, width)).exp()
    inside = (..., slice(2, height - 4), slice(2, width - 4))
    torch.testing.assert_close(scores[inside].logit(), expected(height, width)[inside], atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def net() -> PixelNet:
    """A real network without the branch that sees the whole image."""
    torch.manual_seed(0)
    net = PixelNet(config(output_stride=16), 3).eval()
    for parameter in net.aspp.pool.parameters():
        nn.init.zeros_(parameter)
    return net


@pytest.mark.parametrize("grown", range(1, 33, 3))
def test_what_a_pixel_gets_does_not_depend_on_the_size_of_the_image(net, grown):
    """Far from the right and the lower end nothing changes when an image becomes a few pixels larger there."""
    image = torch.rand(1, 3, 320 + grown, 320 + 2 * grown, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        small, large = net(image[..., :320, :320]), net(image)
    near = (..., slice(0, 96), slice(0, 96))
    torch.testing.assert_close(small[near], large[near], atol=1e-4, rtol=1e-4)
    assert (small[..., -8:, -8:] - large[..., 312:320, 312:320]).abs().max() > 1e-3, "the end itself does see it"


@pytest.mark.parametrize("size", [(1, 1), (5, 33), (48, 48), (65, 64), (112, 37)])
@pytest.mark.parametrize(
    "backbone", ["test_resnet", "convnext_atto", "tf_mobilenetv3_small_minimal_100", "vit_small_r26_s32_224"]
)
@pytest.mark.parametrize("kind", [PixelNet, RegionNet])
def test_networks_take_any_size(kind, backbone, size):
    net = kind(config(backbone=backbone, output_stride=32), 3).eval()
    with torch.no_grad():
        found = net(torch.rand(2, 3, *size))
    assert found.shape == (2, 3, *size)
    assert found.isfinite().all()


@pytest.mark.parametrize("backbone", ["test_resnet", "convnext_atto", "tf_mobilenetv3_small_minimal_100"])
def test_maps_have_the_cells_of_the_image_and_none_of_padding(backbone):
    maps = Backbone(config(backbone=backbone, output_stride=32)).eval()(torch.rand(1, 3, 48, 100))
    assert [tuple(x.shape[-2:]) for x in maps] == [(12, 25), (6, 13), (3, 7), (2, 4)]


def test_what_is_padded_is_the_mean_colour(monkeypatch):
    net = Backbone(config(backbone="convnext_atto", output_stride=32)).eval()
    seen = []
    monkeypatch.setattr(net.features, "forward", lambda image: seen.append(image) or [image] * 4)
    net(torch.rand(1, 3, 40, 64))
    assert seen[0].shape == (1, 3, 64, 64)
    assert seen[0][..., :40, :].abs().min() > 0
    assert not seen[0][..., 40:, :].any()


def test_reading_the_geometry_leaves_a_network_as_it_was():
    torch.manual_seed(0)
    net = Backbone(config())
    drawn = torch.rand(1)
    torch.manual_seed(0)
    bare = module.create_features(config()).features
    assert torch.equal(drawn, torch.rand(1)), "no random number is used up"
    assert all(
        torch.equal(a, b) for a, b in zip(bare.state_dict().values(), net.features.state_dict().values(), strict=True)
    )
    assert all(part.training for part in net.modules())


def test_a_backbone_without_regular_cells_is_told(monkeypatch):
    def refuse(features):
        raise ValueError("stage 0 has not one more cell for 4 more pixels, its stride")

    monkeypatch.setattr(module, "read_geometry", refuse)
    with pytest.raises(UsageError, match=r"^net\.backbone: test_resnet: stage 0 has not one more cell.*regular cells"):
        Backbone(config())


class OnlyMultiples(nn.Module):
    """A network that, like many with windows, refuses what is no multiple of its coarsest stride."""

    feature_info = SimpleNamespace(reduction=lambda: [4, 8, 16, 32])

    def forward(self, image: Tensor) -> list[Tensor]:
        if image.shape[-1] % 32:
            raise AssertionError("Input height doesn't match model")
        return [image[..., ::s, ::s] for s in (4, 8, 16, 32)]


def test_a_network_that_takes_only_multiples_is_given_them():
    lattices, sizes = module.read_geometry(OnlyMultiples())
    assert lattices == TILES
    assert sizes == SizeRule(32, 0)
