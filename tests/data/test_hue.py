from __future__ import annotations

import colorsys
import math

import pytest
import torch
from kornia.enhance import adjust_hue

from rc2l_bench.data.hue import turn_hue


def awkward() -> torch.Tensor:
    """Random colours, colours with equal channels, black, white, greys and the pure ones: (11, 3, 9, 9)."""
    image = torch.rand(11, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    image[:4] = (image[:4] * 2).round() / 2
    image[4], image[5], image[6] = 0, 1, 0.3
    image[7, 0] = image[7, 1]
    return image


@pytest.mark.parametrize("turn", [-0.5, -0.31, -1 / 6, -1e-4, 0.0, 0.1, 1 / 3, 0.45, 0.5])
def test_the_result_is_that_of_the_way_through_hsv(turn):
    image = awkward()
    out = turn_hue(image, torch.full((len(image),), turn * 2 * math.pi))
    for pixel, new in zip(image.movedim(1, -1).reshape(-1, 3), out.movedim(1, -1).reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
        assert new.tolist() == pytest.approx(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value), abs=1e-5)


def test_the_result_is_that_of_kornia_for_every_angle():
    image = torch.rand(64, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    angle = torch.linspace(-math.pi, math.pi, 64)
    torch.testing.assert_close(turn_hue(image, angle), adjust_hue(image, angle), atol=1e-5, rtol=0)


def test_pure_colours_follow_one_another_by_a_sixth():
    colours = [(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1)]
    image = torch.tensor(colours, dtype=torch.float32).view(6, 3, 1, 1)
    turned = turn_hue(image, torch.full((6,), math.pi / 3))
    torch.testing.assert_close(turned, image.roll(-1, 0))


def test_grey_stays_and_the_image_that_came_in_too():
    image = awkward()
    before = image.clone()
    out = turn_hue(image, torch.full((11,), 1.0))
    assert torch.equal(image, before)
    torch.testing.assert_close(out[4:7], image[4:7])


def test_no_value_leaves_its_range():
    image = torch.rand(50, 3, 40, 40, generator=torch.Generator().manual_seed(2))
    out = turn_hue(image, torch.linspace(-math.pi, math.pi, 50))
    assert out.min() >= image.min() - 1e-6
    assert out.max() <= image.max() + 1e-6
