from __future__ import annotations

import math

import pytest
import region_reference as reference
import torch

from rc2l_bench.losses.mask_loss import focal_and_dice, softplus


def both(logits, target, valid):
    """Losses of masks (R, P) against targets and valid pixels of the same form."""
    return focal_and_dice(logits, (target & valid).to(logits.dtype), (~target & valid).to(logits.dtype))


def test_focal_and_dice_computed_by_hand():
    logits = torch.tensor([[0.8, 0.5, 0.9]]).logit()
    focal, dice = both(logits, torch.tensor([[True, False, False]]), torch.tensor([[True, True, False]]))
    assert focal.item() == pytest.approx((0.25 * 0.2**2 * -math.log(0.8) + 0.75 * 0.5**2 * math.log(2)) / 2, rel=1e-5)
    assert dice.item() == pytest.approx(1 - (2 * 0.8 + 1) / (0.8 + 0.5 + 1 + 1), rel=1e-5)


def test_focal_and_dice_equal_their_definitions():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 40, generator=g, dtype=torch.float64) * 4
    target, valid = (torch.rand(5, 40, generator=g) < share for share in (0.4, 0.8))
    focal, dice = both(logits, target, valid)
    for r in range(5):
        x, t = logits[r][valid[r]].numpy(), target[r][valid[r]].numpy()
        assert focal[r].item() == pytest.approx(reference.focal(x, t).mean(), abs=1e-12)
        assert dice[r].item() == pytest.approx(1 - reference.dice(reference.sigmoid(x), t), abs=1e-12)


def test_without_pixels_both_are_zero():
    focal, dice = both(torch.randn(1, 4), torch.ones(1, 4).bool(), torch.zeros(1, 4).bool())
    assert focal == dice == 0


def test_their_gradients_are_right():
    g = torch.Generator().manual_seed(1)
    logits = (torch.randn(2, 9, generator=g, dtype=torch.float64) * 3).requires_grad_()
    target, valid = (torch.rand(2, 9, generator=g) < share for share in (0.5, 0.9))
    assert torch.autograd.gradcheck(lambda x: both(x, target, valid), logits)


def test_softplus_and_its_gradient_equal_torchs():
    x = torch.tensor([-1e4, -100.0, -3.0, -1e-3, 0.0, 1e-3, 3.0, 100.0, 1e4], requires_grad=True)
    y = x.detach().clone().requires_grad_()
    softplus(x).sum().backward()
    torch.nn.functional.softplus(y).sum().backward()
    torch.testing.assert_close(softplus(x), torch.nn.functional.softplus(y), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(x.grad, y.grad)
