"""Four strides from one: sizes, widths, and where cells lie."""

from __future__ import annotations

import pytest
import tiny_data
import torch
from torch import nn

from rc2l_bench.nets.backbone import Backbone
from rc2l_bench.nets.lattice import Lattice
from rc2l_bench.nets.pyramid import Pyramid, resize

PATCHES = Lattice(16.0, 7.5)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone(tiny_data.protocol(net={"backbone": "test_vit", "output_stride": 32}).net)


def test_the_levels_have_strides_4_8_16_32_and_rising_widths(backbone):
    pyramid = Pyramid(backbone)
    maps = pyramid(backbone(torch.rand(2, 3, 80, 112)))
    assert [tuple(x.shape[1:]) for x in maps] == [(8, 20, 28), (16, 10, 14), (32, 5, 7), (64, 3, 4)]
    assert pyramid.channels == [8, 16, 32, 64]
    assert pyramid.lattices == [Lattice(4.0, 1.5), Lattice(8.0, 3.5), PATCHES, Lattice(32.0, 7.5)]


@pytest.mark.parametrize("factor", [4.0, 2.0, 1.0, 0.5, 0.25])
def test_what_a_cell_sees_is_centred_where_its_lattice_says(factor):
    """The centre of mass of the gradient over the tokens, whose centres are known; an upsampled cell sees one token."""
    layer = resize(1, factor)
    for parameter in layer.parameters():
        nn.init.ones_(parameter)
    tokens = torch.rand(1, 1, 9, 17, requires_grad=True)
    out, lattice = layer(tokens), PATCHES.scaled(factor)
    cell = out.shape[-1] // 2
    (gradient,) = torch.autograd.grad(out[0, 0, out.shape[-2] // 2, cell], tokens)
    weight = gradient.sum((0, 1, 2)) / gradient.sum()
    centre = float((weight * (PATCHES.stride * torch.arange(17) + PATCHES.offset)).sum())
    within = (PATCHES.stride - lattice.stride) / 2 if factor > 1 else 0.0
    assert abs(centre - (lattice.stride * cell + lattice.offset)) <= within
    assert out.shape[-1] == lattice.cells(17 * 16)


def test_cells_of_convolutions_may_begin_left_of_the_image():
    assert Lattice(16.0).scaled(4) == Lattice(4.0, -6.0)
    assert Lattice(16.0).scaled(0.5) == Lattice(32.0)
