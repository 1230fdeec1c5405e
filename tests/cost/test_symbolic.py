"""A training step without values: does it need what a real one does?"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from method_data import CLASSES, METHODS, make_config, make_protocol
from torch import nn
from torch.nn import functional

from rc2l_bench.cost.symbolic import StepEstimate, count_flops, estimate_step, make_batch, track
from rc2l_bench.cost.worst_case import worst_case
from rc2l_bench.methods.contract import build
from rc2l_bench.run.allocations import peak_of, size_of, state_of, take_step
from rc2l_bench.run.optimiser import build_optimiser

PROTOCOL = make_protocol(crop=[96, 96], optimiser__clip=0.1, optimiser__name="adamw")


def estimate(method: str, **more: int) -> StepEstimate:
    return estimate_step(method, make_config(method), PROTOCOL, CLASSES, **more)


def measure(method: str) -> int:
    """Bytes that a real step allocates, on images that have every class."""
    torch.manual_seed(0)
    config = make_config(method)
    model = build(method, config, PROTOCOL, CLASSES).to(memory_format=torch.channels_last).train()
    optimiser = build_optimiser(model, PROTOCOL.optimiser)
    batch = make_batch(PROTOCOL, config.views.strong, model.unlabelled, CLASSES)
    step = partial(take_step, model, optimiser, batch, 0.9, PROTOCOL.optimiser.clip)
    step()
    return size_of(state_of(model, optimiser, batch)) + peak_of(step)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_real_step_in_the_worst_case_needs_what_was_estimated(method):
    with worst_case():
        measured = measure(method)
    assert estimate(method).peak == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("method", ["baselines/supervised", "rc2l_bench/methods/rc2l"])
def test_a_real_step_on_images_with_every_class_needs_what_was_estimated(method):
    assert estimate(method).peak == pytest.approx(measure(method), rel=0.1)


def test_no_real_step_of_u2pl_needs_more_than_its_worst_case():
    assert measure("baselines/u2pl") <= 1.01 * estimate("baselines/u2pl").peak


def test_memory_is_told_by_kind():
    net = nn.Linear(100, 50, bias=False)
    image, size = torch.rand(10, 100), 4 * 100 * 50

    def step() -> None:
        (net(image) ** 2).sum().backward()
        torch.empty(1000, 1000)  # the peak comes when the gradients are there

    memory = track(step, [net, image]).memory
    assert (memory["parameters"], memory["gradients"], memory["batch"]) == (size, size, 4 * 10 * 100)


def test_frozen_parameters_can_be_tracked():
    net = nn.Sequential(nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 8))
    assert track(lambda: net(torch.rand(2, 8)).sum().backward(), [net]).peak > 0


def test_flops_are_those_of_the_products():
    net, image = nn.Conv2d(3, 5, 3, padding=1, bias=False), torch.rand(2, 3, 16, 16)
    forward = 2 * 2 * 5 * 16 * 16 * 3 * 9
    assert track(lambda: net(image), [net]).flops == forward
    assert track(lambda: net(image).sum().backward(), [net]).flops == 2 * forward


def test_attention_in_one_kernel_is_counted():
    """Torch has no formula for the kernel that the CPU takes."""
    with count_flops() as counter:
        query = torch.zeros(1, 12, 64, 64)
        functional.scaled_dot_product_attention(query, query, query)
    assert counter.get_total_flops() == 2 * 2 * 12 * 64 * 64 * 64
