from __future__ import annotations

import pytest
import torch
from method_data import CLASSES, make_config, make_protocol
from torch._subclasses.fake_tensor import FakeTensorMode

from rc2l_bench.cost.symbolic import StepEstimate, estimate_step
from rc2l_bench.cost.worst_case import WorstCase, worst_case
from rc2l_bench.losses.matching import Matching

PROTOCOL = make_protocol(crop=[96, 96], optimiser__clip=0.1, optimiser__name="adamw")


def estimate(method: str, **more: int) -> StepEstimate:
    return estimate_step(method, make_config(method), PROTOCOL, CLASSES, **more)


def test_fewer_regions_need_less():
    assert estimate("rc2l_bench/methods/rc2l", most_regions=1).peak < estimate("rc2l_bench/methods/rc2l").peak


@pytest.mark.parametrize("fake", [False, True])
def test_masks_select_all_and_numbers_are_assumed(fake):
    with FakeTensorMode() if fake else torch.no_grad():
        x, mask = torch.rand(4, 5), torch.zeros(4, dtype=torch.bool)
        with WorstCase():
            assert x[mask].shape == (4, 5)
            assert mask.nonzero().shape == (4, 1)
            assert x.masked_select(x > 2).shape == (20,)
            assert int(mask.sum()) == 1


def test_a_mask_selects_all_in_the_backward_pass_too():
    x = torch.rand(4, 5, requires_grad=True)
    with FakeTensorMode(allow_non_fake_inputs=True), WorstCase():
        (x[x > 2] ** 2).sum().backward()
    assert x.grad.shape == (4, 5)


def test_nothing_stays_replaced():
    before = Matching.solve
    with worst_case():
        assert Matching.solve is not before
    assert Matching.solve is before
