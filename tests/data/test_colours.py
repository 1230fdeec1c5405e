from __future__ import annotations

import pytest
import tiny_data
import torch
from augment_data import CPU, draws
from hypothesis import given, settings
from hypothesis import strategies as st

from rc2l_bench.config import StrongConfig
from rc2l_bench.data import colours as module
from rc2l_bench.data.colours import recolour


def colours(**changes) -> StrongConfig:
    calm = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "jitter": 1.0, "grey": 0.0, "blur": 0.0}
    return tiny_data.protocol(strong=calm | changes).strong


@given(seed=st.integers(0, 10**6), strength=st.floats(0, 2), hue=st.floats(0, 0.5))
@settings(max_examples=30)
def test_colours_stay_between_0_and_1(seed, strength, hue):
    strong = colours(brightness=strength, contrast=strength, saturation=strength, hue=hue, grey=0.3, blur=0.5)
    image = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    image[0] = image[0].round()
    out = recolour(image, strong, draws(4, seed))
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 1


def test_recolouring_makes_a_new_tensor():
    image = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    recolour(image, colours(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2, grey=0.5, blur=1.0), draws(4))
    assert torch.equal(image, before)


def test_colours_are_changed_as_torchvision_does():
    from torchvision.transforms import functional as rival

    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    changes = (
        ("brightness", 0.4, rival.adjust_brightness), ("contrast", 0.4, rival.adjust_contrast),
        ("saturation", 0.4, rival.adjust_saturation),
    )  # fmt: skip
    for number, (name, strength, function) in enumerate(changes):
        mine = recolour(image, colours(**{name: strength}), draws())
        source = draws()
        source.chosen(1.0)
        factor = [source.uniform(1 - (strength if i == number else 0), 1 + strength).item() for i in range(number + 1)]
        assert torch.allclose(mine, function(image, factor[-1]).clamp(0, 1), atol=2e-3), name


def test_hue_is_turned_as_torchvision_does():
    from torchvision.transforms import functional as rival

    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    source = draws()
    source.chosen(1.0)
    for _ in range(3):
        source.uniform(0, 1)
    turn = source.uniform(-0.3, 0.3).item()
    assert torch.allclose(recolour(image, colours(hue=0.3), draws()), rival.adjust_hue(image, turn), atol=1e-3)


@pytest.mark.parametrize("name", ["jitter", "grey", "blur"])
def test_colours_are_changed_as_often_as_asked(name):
    strong = colours(brightness=0.5, **{"jitter": 0.0, name: 0.3})
    image = torch.rand(1500, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    changed = (recolour(image, strong, draws(1500)) - image).abs().amax((1, 2, 3)) > 1e-6
    assert abs(changed.float().mean() - 0.3) < 0.04


def test_grey_images_are_grey():
    image = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    out = recolour(image, colours(grey=1.0), draws(3))
    assert torch.allclose(out[:, 0], out[:, 1])
    assert torch.allclose(out[:, 0], out[:, 2])


def test_each_image_is_blurred_by_its_own_sigma():
    image = torch.zeros(6, 3, 31, 31)
    image[:, :, 15, 15] = 1
    out = recolour(image, colours(blur=1.0, sigma=[0.5, 3.0]), draws(6))
    assert len(out[:, 0, 15, 15].unique()) == 6
    assert torch.allclose(out.sum((2, 3)), torch.ones(6, 3), atol=1e-4)


def test_all_at_once_is_the_same_as_one_by_one(monkeypatch):
    strong = colours(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.3, jitter=0.7, grey=0.3, blur=0.5)
    image = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    alone = recolour(image, strong, draws(8))
    monkeypatch.setattr(module, "pieces", lambda images, _: iter([slice(0, images)]))
    assert torch.allclose(recolour(image, strong, draws(8)), alone, atol=1e-6)
    assert not torch.equal(alone, image)


def test_one_strength_does_not_move_the_draws_of_another():
    image = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    blurred = recolour(image, colours(blur=0.5), draws(4))
    both = recolour(image, colours(blur=0.5, hue=1e-9, brightness=1e-9), draws(4))
    assert torch.allclose(both, blurred, atol=1e-5)
    assert not torch.allclose(blurred, image, atol=1e-2)


def test_no_images_are_no_trouble():
    assert recolour(torch.zeros(0, 3, 8, 8, device=CPU), colours(hue=0.2, blur=1.0), draws(0)).shape == (0, 3, 8, 8)
