from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import ROOT

from rc2l_bench.config import Params, load
from rc2l_bench.nets.lattice import PIXELS, Lattice, SizeRule, find_lattices, pick, resample

PARAMS = load(Params, ROOT / "params.yaml")
CROPS = {side for recipe in (*PARAMS.recipes.values(), *PARAMS.protocol.values()) for side in recipe.crop}
SIZES = sorted(CROPS | {17, 48, 63, 65, 112, 333, 366, 375, 500})
"""Every crop of params.yaml, and sizes at which images are evaluated."""
STAGES = [
    *[Lattice(float(stride)) for stride in (4, 8, 16, 32)],
    *[Lattice(float(stride), (stride - 1) / 2) for stride in (4, 8, 16, 32)],
    Lattice(3.5, 1.25),
]


def centres(lattice: Lattice, pixels: int) -> np.ndarray:
    return lattice.offset + lattice.stride * np.arange(lattice.cells(pixels))


def ramp(lattice: Lattice, height: int, width: int) -> torch.Tensor:
    """Two channels: the row and the column of every cell's centre."""
    rows, columns = np.meshgrid(centres(lattice, height), centres(lattice, width), indexing="ij")
    return torch.from_numpy(np.stack([rows, columns])[None]).float()


@pytest.mark.parametrize(
    ("stride", "pixels", "cells"), [(4, 64, 16), (4, 65, 17), (16, 321, 21), (3.5, 14, 4), (1, 7, 7)]
)
def test_an_image_has_cells_up_to_its_end(stride, pixels, cells):
    assert Lattice(float(stride)).cells(pixels) == cells


@pytest.mark.parametrize("stage", STAGES, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_a_ramp_is_not_displaced_at_any_size(stage, size):
    found = resample(ramp(stage, size, size + 3), stage, PIXELS, (size, size + 3))
    for axis, channel in ((0, found[0, 0, :, 0]), (1, found[0, 1, 0])):
        known = centres(stage, size + 3 * axis)
        expected = np.clip(np.arange(len(channel)), known[0], known[-1])
        np.testing.assert_allclose(channel, expected, atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_half_pixel_interpolation_would_displace_it(size):
    """The ramp can tell: what sizes alone give is more than a pixel off somewhere."""
    cells = ramp(Lattice(4.0), size, size)
    found = torch.nn.functional.interpolate(cells, (size, size), mode="bilinear", align_corners=False)[0, 1, 0]
    assert (found - torch.arange(float(size)))[: size - 4].abs().max() > 1


@given(
    cells=st.integers(1, 9), size=st.integers(1, 40), stride=st.floats(0.5, 9), offset=st.floats(-3, 6),
    finer=st.floats(0.5, 4), start=st.floats(-2, 2),
)  # fmt: skip
def test_resampling_is_linear_interpolation_along_rows_and_columns(cells, size, stride, offset, finer, start):
    have, want = Lattice(stride, offset), Lattice(finer, start)
    x = np.random.default_rng(0).normal(size=(cells, 4))
    places = offset + stride * np.arange(cells), offset + stride * np.arange(4)
    wanted = start + finer * np.arange(size), start + finer * np.arange(5)
    rows = np.stack([np.interp(wanted[0], places[0], column) for column in x.T], 1)
    expected = np.stack([np.interp(wanted[1], places[1], row) for row in rows])
    found = resample(torch.from_numpy(x)[None, None], have, want, (size, 5))[0, 0]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_same_cells_are_passed_on_as_they_are():
    x = torch.randn(2, 3, 4, 5)
    assert resample(x, Lattice(4.0), Lattice(4.0), (4, 5)) is x


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_kind_of_number_stays(dtype):
    assert resample(torch.ones(1, 1, 2, 2, dtype=dtype), Lattice(4.0), PIXELS, (8, 8)).dtype == dtype


def test_gradients_are_those_of_differences():
    x = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resample(x, Lattice(3.0, 1.0), PIXELS, (8, 5)), x)


def test_reduced_precision_is_left_to_the_values():
    """Under autocast a product would round float32 masks to bfloat16."""
    x = torch.randn(1, 1, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = resample(x, Lattice(4.0), PIXELS, (9, 9))
    assert torch.equal(found, resample(x, Lattice(4.0), PIXELS, (9, 9)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stage", STAGES[:5], ids=str)
def test_a_cell_picks_the_pixel_under_its_centre(stage, size):
    label = torch.arange(size).expand(2, size, size)
    found = pick(label, stage, (stage.cells(size),) * 2)
    expected = np.clip(centres(stage, size), 0, size - 1)
    assert found.dtype == torch.int64
    assert np.abs(found[0, 0].numpy() - expected).max() <= 0.5


def test_picking_labels_takes_pixels_and_never_mixes_them():
    label = torch.tensor([[[0, 9, 7, 9], [9, 9, 9, 9], [255, 9, 3, 9], [9, 9, 9, 9]]])
    assert pick(label, Lattice(2.0), (2, 2)).tolist() == [[[0, 7], [255, 3]]]
    assert pick(label == 7, Lattice(2.0), (2, 2)).tolist() == [[[False, True], [False, False]]]


Layer = tuple[int, int, int]
"""Kernel, stride, and padding on either side of a convolution."""


def chain(layers: list[Layer]) -> tuple[list[Lattice], list[int]]:
    """Where the cells after every layer lie, by the arithmetic of their windows."""
    stride, offset, known = 1, 0.0, []
    for kernel, step, padding in layers:
        offset, stride = offset + stride * ((kernel - 1) / 2 - padding), stride * step
        known.append(Lattice(float(stride), offset))
    return known, [int(lattice.stride) for lattice in known]


def cells_after(layers: list[Layer], pixels: int) -> list[int]:
    counts = []
    for kernel, step, padding in layers:
        pixels = (pixels + 2 * padding - kernel) // step + 1
        counts.append(pixels)
    return counts


LAYERS = st.integers(1, 7).flatmap(
    lambda kernel: st.tuples(st.just(kernel), st.sampled_from([1, 2, 4]), st.integers(0, kernel // 2))
)


@given(st.lists(LAYERS, min_size=1, max_size=5))
def test_counting_cells_tells_where_any_chain_of_convolutions_has_them(layers):
    known, strides = chain(layers)
    assert find_lattices(strides, lambda pixels: cells_after(layers, pixels)) == known


def test_a_stage_without_regular_cells_is_told():
    with pytest.raises(ValueError, match="stage 0 has not one more cell for 4 more pixels"):
        find_lattices([4], lambda pixels: [pixels // 2])


@pytest.mark.parametrize(
    ("rule", "pixels", "fits"),
    [(SizeRule(1, 0), 37, 37), (SizeRule(32, 0), 37, 64), (SizeRule(32, 0), 64, 64), (SizeRule(32, 1), 64, 65),
     (SizeRule(32, 1), 65, 65), (SizeRule(32, 1), 66, 97), (SizeRule(14, 0), 500, 504)],
)  # fmt: skip
def test_sizes_are_rounded_up_to_valid_ones(rule, pixels, fits):
    assert rule.fit(pixels) == fits
