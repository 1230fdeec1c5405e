"""Measure the peak of what torch allocates on the CPU, which resident memory hides behind caches and libraries."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from rc2l_bench.config import NO_LEVERS, Levers
from rc2l_bench.run.levers import backward_pass, divide, weigh
from rc2l_bench.types import Batch

if TYPE_CHECKING:
    from rc2l_bench.run.train import Trainer

QUIET_PROFILER = {"KINETO_LOG_LEVEL": "99"}
"""Keeps torch's profiler from reporting on the terminal that there is no GPU; read when it is first used."""


def peak_of(function: Callable[[], object]) -> int:
    """Measure the most bytes that torch's CPU allocator holds at a time, beyond what it held before.

    Every allocation counts, also the scratch memory of kernels, in all threads. What was allocated before and is given
    back meanwhile lowers the count.

    Args:
        function: runs once, under torch's profiler, which slows it down.

    Returns:
        Bytes, >= 0.
    """
    os.environ.update(QUIET_PROFILER)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    results = recorded.profiler and recorded.profiler.kineto_results
    assert results is not None
    # The tables of the profiler sum bytes by operation and so lose the peak; its events are signed sizes with a time.
    # Of equal times the one that gives back comes first, which can only make the peak smaller.
    found = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    peak = held = 0
    for _, size in found:
        held += size
        peak = max(peak, held)
    return peak


def size_of(tensors: Iterable[Tensor]) -> int:
    """Sum the bytes of the storages of tensors; a storage that several share counts once.

    Storages, not elements: a view of one row keeps the whole of its storage alive.
    """
    storages = {storage.data_ptr(): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors)}
    return sum(storages.values())


def take_step(
    method: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    progress: float,
    clip: float = 0.0,
    levers: Levers = NO_LEVERS,
) -> None:
    """Take one training step: forward, backward, optimiser, and what the method does after it.

    As `Trainer` takes it, but in plain torch, so that it works on copies of networks and on tensors without values.

    Args:
        method: a `Method`.
        optimiser: of its parameters.
        batch: on the device of both.
        progress: share of the budget that is spent, in [0, 1).
        clip: largest norm of the gradient; 0 = not clipped.
        levers: that were pulled.
    """
    for part, share in divide(method, batch, levers):
        losses: dict[str, Tensor] = weigh(method(part, progress), share)
        with backward_pass(method, levers):
            torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    if clip > 0:
        nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], clip)
    optimiser.step()
    optimiser.zero_grad()
    method.after_step()  # type: ignore[operator]


def state_of(method: nn.Module, optimiser: torch.optim.Optimizer, batch: Batch) -> list[Tensor]:
    """List all tensors that are there before a step: networks, optimiser, batch."""
    moments = [value for state in optimiser.state.values() for value in state.values() if isinstance(value, Tensor)]
    return [*method.parameters(), *method.buffers(), *moments, *batch.tensors().values()]


def measure_step(trainer: Trainer, batch: Batch) -> dict[str, float]:
    """Measure the peak of torch's allocations in the last step of a training that is over.

    The step is taken again, by copies of the networks and of the optimiser: nothing is learnt from it, and the profiler
    slows down no step of the training. It is the last one, because all losses are on by then. All processes have to do
    this together, because methods talk to one another; the exchange of gradients is left out.

    Args:
        trainer: at the end of its budget.
        batch: of its last step.

    Returns:
        `allocated_mb`, MiB; nothing on CUDA, where torch itself counts during the whole training.
    """
    if trainer.fabric.device.type != "cpu":
        return {}
    # In one call: the copied optimiser then holds the parameters of the copied method.
    method, optimiser = copy.deepcopy((trainer.method, trainer.optimiser))
    steps, clip = trainer.protocol.steps, trainer.protocol.optimiser.clip

    def step() -> None:
        with trainer.fabric.autocast():
            take_step(method, optimiser, batch, 1 - 1 / steps, clip, trainer.runtime.levers)

    before = size_of(state_of(method, optimiser, batch))
    # A forked generator: whatever draws after this draws what it would have drawn without.
    with torch.random.fork_rng(devices=[]):
        return {"allocated_mb": (before + peak_of(step)) / 2**20}
