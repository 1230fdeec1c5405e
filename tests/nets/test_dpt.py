"""The decoder of plain transformers."""

from __future__ import annotations

import pytest
import tiny_data
import torch
from torch import Tensor, nn

from rc2l_bench.nets.lattice import PIXELS, Lattice, resample
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.nets.region_net import RegionNet


def make(dropout: float = 0.0) -> PixelNet:
    torch.manual_seed(0)
    changes = {"backbone": "test_vit", "output_stride": 32, "pixel": {"dropout": dropout}}
    return PixelNet(tiny_data.protocol(net=changes).net, 2)


def test_features_have_half_the_finest_stride():
    net = make()
    maps = net.encode(torch.rand(2, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(2, 64, 4, 6)] * 4
    assert net.decode(*maps).shape == (2, net.width, 32, 48)
    assert net.lattice == Lattice(2.0, 0.5)


class Nothing(nn.Module):
    """In the place of what finer maps add."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def columns(lattice: Lattice, height: int, width: int) -> Tensor:
    """A map whose every cell holds the column of its centre."""
    places = lattice.offset + lattice.stride * torch.arange(float(lattice.cells(width)))
    return places.expand(1, 1, lattice.cells(height), -1)


@pytest.mark.parametrize("side", [224, 250])
def test_a_ramp_of_the_coarsest_map_comes_out_where_it_is(side):
    dpt = make().dpt
    assert dpt is not None
    for parts in (dpt.pyramid.levels, dpt.narrow, dpt.joint, dpt.project):
        for i in range(len(parts)):
            parts[i] = nn.Identity()
    for i in range(len(dpt.side)):
        dpt.side[i] = Nothing()
    dpt.last = nn.Sequential()
    found = dpt([columns(lattice, 64, side) for lattice in dpt.pyramid.lattices])
    inside = slice(32, side - 48)  # beyond the outermost centres of the coarsest map values are those of these centres
    seen = resample(found, dpt.lattice, PIXELS, (64, side))[0, 0, 32, inside]
    torch.testing.assert_close(seen, torch.arange(float(side))[inside], atol=1e-3, rtol=0)


def test_dropout_switches_whole_channels_off_in_training_only():
    net = make(dropout=0.5)
    maps = [x.detach() for x in net.encode(torch.rand(2, 3, 32, 32))]
    dead = (net.decode(*maps) == 0).all(-1).all(-1)
    assert dead.any()
    assert not dead.all()
    net.eval()
    assert torch.equal(net.decode(*maps), net.decode(*maps))


@pytest.mark.parametrize("kind", [PixelNet, RegionNet])
def test_heads_on_a_plain_transformer_are_no_part_of_its_backbone(kind):
    """They learn at the rate of heads."""
    names = [name for name, _ in kind(make_net(), 3).named_parameters()]
    assert any(name.startswith(("dpt.pyramid.", "pyramid.")) for name in names)
    assert all(name.startswith("backbone.features.") for name in names if "backbone" in name)


def make_net():
    return tiny_data.protocol(net={"backbone": "test_vit", "output_stride": 32}).net


def test_region_nets_have_masks_at_stride_4_and_no_cells_beyond_the_image():
    seen = RegionNet(make_net(), 3).segment(torch.rand(1, 3, 70, 96))
    assert seen.lattice == Lattice(4.0, 1.5)
    assert seen.features.shape[-2:] == (18, 24)


@pytest.mark.parametrize("kind", [PixelNet, RegionNet])
def test_position_embeddings_follow_the_size(kind):
    """Any size is seen, and a shuffled image is another one."""
    net = kind(make_net(), 3).eval()
    with torch.no_grad():
        assert net(torch.rand(1, 3, 33, 200)).shape == (1, 3, 33, 200)
        image = torch.rand(1, 3, 16, 16).repeat(1, 1, 2, 2)
        seen = net.backbone(image)[0]
    assert not torch.allclose(seen[..., 0, 0], seen[..., 1, 1], atol=1e-4), "equal patches at two places"
