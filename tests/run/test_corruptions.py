from __future__ import annotations

import io
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from rc2l_bench.config import Corruption
from rc2l_bench.run.corruptions import BLUR, BRIGHTNESS, CONTRAST, NOISE, corrupt

CPU = torch.device("cpu")
NAMES = get_args(Corruption)


def scene(height: int = 72, width: int = 100, seed: int = 0) -> Tensor:
    """A smooth colourful image, (1, 3, H, W) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None]


def spoilt(name: Corruption, image: Tensor | None = None, ids: str = "a") -> Tensor:
    image = scene() if image is None else image
    return corrupt(image, list(ids), name, CPU)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_spoilt_in_the_same_way_alone_and_beside_others(name):
    both = torch.cat([scene(seed=1), scene(seed=0)])
    found = spoilt(name, both, "ba")
    assert found.dtype == torch.uint8
    assert found.shape == both.shape
    assert not torch.equal(found, both)
    assert (found[1:].int() - spoilt(name).int()).abs().max() <= 1, "up to the rounding of sums"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 3)])
def test_images_of_any_size_can_be_spoilt(name, size):
    assert spoilt(name, scene(*size)).shape == (1, 3, *size)


@pytest.mark.parametrize("name", NAMES)
def test_spoiling_draws_from_no_shared_generator(name):
    torch.manual_seed(0)
    first = torch.rand(1)
    torch.manual_seed(0)
    spoilt(name)
    assert torch.equal(torch.rand(1), first)


def test_noise_depends_on_the_image_alone():
    grey = torch.full((2, 3, 60, 80), 128, dtype=torch.uint8)
    one, two = spoilt("noise", grey, "ab").float() / 255
    assert torch.equal(one, spoilt("noise", grey[:1], "a")[0].float() / 255)
    assert (one != two).float().mean() > 0.9
    assert one.mean() == pytest.approx(128 / 255, abs=0.01)
    assert one.std() == pytest.approx(NOISE, rel=0.03)


def test_blur_is_that_of_scipy():
    image = scene()
    sigma = BLUR * 72
    expected = gaussian_filter(image[0].numpy().astype(float), (0, sigma, sigma), mode="nearest", truncate=4.0)
    assert np.abs(spoilt("blur")[0].numpy() - expected).max() <= 2


def test_brightness_is_added_to_the_value():
    image = (
        torch.tensor([[100, 50, 0], [0, 0, 0], [250, 100, 100]], dtype=torch.uint8).view(1, 3, 3, 1).permute(0, 2, 1, 3)
    )
    value = image[0].amax(0).float() / 255
    found = spoilt("brightness", image)[0].float() / 255
    torch.testing.assert_close(found.amax(0), (value + BRIGHTNESS).clamp(max=1), atol=3e-3, rtol=0)
    # Hue and saturation stay: the channels keep their ratios.
    assert found[1, 0] / found[0, 0] == pytest.approx(0.5, abs=0.02)


def test_contrast_is_a_share_of_the_distance_to_the_mean():
    image = scene().float()
    mean = image.mean((2, 3), keepdim=True)
    expected = (mean + CONTRAST * (image - mean)).round()
    assert (spoilt("contrast").float() - expected).abs().max() <= 1


def test_jpeg_is_about_what_a_file_would_be():
    image = scene(seed=3)
    file = io.BytesIO()
    Image.fromarray(image[0].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=15)
    real = np.asarray(Image.open(file)).astype(float)
    found = spoilt("jpeg", image)[0].permute(1, 2, 0).numpy().astype(float)
    damage = np.abs(real - image[0].permute(1, 2, 0).numpy()).mean()
    assert np.abs(found - real).mean() < damage / 2
