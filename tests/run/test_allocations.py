"""The peak of torch's allocations on the CPU."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from method_data import CLASSES, make, make_batch, make_protocol
from tiny_data import RUNTIME

from rc2l_bench.config import Runtime
from rc2l_bench.run.allocations import measure_step, peak_of, size_of
from rc2l_bench.run.hardware import open_fabric
from rc2l_bench.run.train import Trainer

MIB = 2**20


def blocks(count: int) -> torch.Tensor:
    return torch.empty(count * MIB, dtype=torch.uint8)


def test_the_peak_is_what_is_held_at_a_time():
    def hold() -> None:
        first, second = blocks(3), blocks(4)
        del first, second
        blocks(5)

    assert peak_of(hold) == 7 * MIB


def test_what_was_there_before_does_not_count():
    before = blocks(8)
    assert peak_of(lambda: blocks(2)) == 2 * MIB
    assert size_of([before]) == 8 * MIB


def test_scratch_memory_inside_an_operation_counts():
    x = torch.rand(MIB)
    assert peak_of(lambda: x.sort().values.sum()) > 12 * MIB - 1


def test_a_storage_that_two_tensors_share_counts_once():
    whole = blocks(2)
    assert size_of([whole, whole[: MIB // 2], whole.view(2, -1)]) == 2 * MIB


@pytest.fixture
def trainer():
    fabric = open_fabric(Runtime.model_validate_json(json.dumps(RUNTIME)))
    yield Trainer(
        fabric, make("rc2l_bench/methods/rc2l"), make_protocol(), Runtime.model_validate_json(json.dumps(RUNTIME)), 0
    )
    torch.use_deterministic_algorithms(False)


def test_measuring_a_step_leaves_a_run_as_it_was(trainer):
    batch = make_batch(trainer.method)
    trainer.model(0.5, **batch.tensors())["supervised"].backward()
    trainer.stepper.step()
    trainer.stepper.zero_grad()
    state, numbers = copy.deepcopy(trainer.state()), torch.get_rng_state()
    assert measure_step(trainer, batch)["allocated_mb"] > 0
    assert torch.equal(torch.get_rng_state(), numbers)
    after = trainer.state()
    assert all(torch.equal(state["method"][key], after["method"][key]) for key in state["method"])
    moments = [after["optimiser"]["state"][i] for i in state["optimiser"]["state"]]
    for old, new in zip(state["optimiser"]["state"].values(), moments, strict=True):
        assert all(torch.equal(old[key], new[key]) for key in old if isinstance(old[key], torch.Tensor))
    assert all(p.grad is None for p in trainer.method.parameters())


def test_a_step_needs_more_than_the_networks_and_the_batch(trainer):
    state = [*trainer.method.parameters(), *trainer.method.buffers()]
    assert trainer.method.num_classes == CLASSES
    found = measure_step(trainer, make_batch(trainer.method))["allocated_mb"]
    assert size_of(state) / MIB < found < 100
