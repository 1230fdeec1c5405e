"""Forward and backward pass of a step, of the batch at once and in parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from lightning_fabric import Fabric
from method_data import make, make_batch
from tiny_data import RUNTIME

from rc2l_bench.config import NO_LEVERS, Runtime
from rc2l_bench.run.clock import Clock
from rc2l_bench.run.hardware import open_fabric
from rc2l_bench.run.passes import Objective, Passes
from rc2l_bench.run.record import Record

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    yield open_fabric(Runtime.model_validate_json(json.dumps(RUNTIME)))
    torch.use_deterministic_algorithms(False)


def passes(fabric: Fabric, method, parts: int = 1, clock: Clock | None = None) -> Passes:
    levers = NO_LEVERS.model_copy(update={"accumulate": parts})
    return Passes(fabric, fabric.setup(Objective(method)), method, levers, clock or Clock(CPU))


def test_a_pass_gives_losses_and_gradients_of_the_bare_method(fabric):
    method, bare = (make("baselines/mean_teacher") for _ in range(2))
    batch = make_batch(method)
    found = passes(fabric, method).carry_out(batch, 0.5)
    losses = bare(batch, 0.5)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert len(losses) == 2
    assert {name: float(value) for name, value in found.items()} == {
        name: float(value.detach()) for name, value in (losses | {"loss": total}).items()
    }
    assert not any(value.requires_grad for value in found.values())
    for one, other in zip(method.student.parameters(), bare.student.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_the_progress_reaches_the_method(fabric):
    method = make("baselines/cps", {"warm_up": 0.5})
    batch, trained = make_batch(method), passes(fabric, method)
    assert trained.carry_out(batch, 0.4)["cross"] == 0
    assert trained.carry_out(batch, 0.6)["cross"] > 0


def test_gradients_are_added_to_those_that_are_there(fabric):
    method = make("baselines/supervised").eval()
    trained = passes(fabric, method)
    batch = make_batch(method)
    trained.carry_out(batch, 0.5)
    once = [p.grad.clone() for p in method.parameters()]
    trained.carry_out(batch, 0.5)
    for parameter, before in zip(method.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * before)


def test_losses_of_parts_are_those_of_the_batch(fabric):
    method = make("baselines/supervised").eval()
    batch = make_batch(method)
    whole, parts = (passes(fabric, method, count).carry_out(batch, 0.5) for count in (1, 4))
    assert parts["loss"] == pytest.approx(float(whole["loss"]), rel=1e-5)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_processes_exchange_gradients_with_the_last_part_alone(fabric, monkeypatch, parts):
    waits = []

    @contextmanager
    def note(_, enabled: bool) -> Iterator[None]:
        waits.append(enabled)
        yield

    monkeypatch.setattr(fabric, "no_backward_sync", note)
    method = make("baselines/supervised")
    passes(fabric, method, parts).carry_out(make_batch(method), 0.5)
    assert waits == [True] * (parts - 1) + [False]


def test_both_passes_of_every_part_are_timed(fabric):
    clock, record = Clock(CPU), Record()
    method = make("baselines/supervised")
    passes(fabric, method, 2, clock).carry_out(make_batch(method), 0.5)
    assert [part for part, _, _ in clock._timed] == ["forward", "backward"] * 2
    clock.read(record, wait=True)
    assert record.part_seconds["forward"] > 0
    assert record.part_seconds["backward"] > 0
