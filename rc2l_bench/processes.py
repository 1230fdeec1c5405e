"""Sums over the processes of one training, so that a batch means the same however it is spread over them.

The one convention: gradients are averaged over the processes after the backward pass (as DistributedDataParallel does),
and every process holds the same number of images. In one process every function here is the identity.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Sum(torch.autograd.Function):
    """All-reduce whose backward pass is an all-reduce."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        return total(gradients[0])


def total(x: Tensor) -> Tensor:
    """The sum of a number tensor over all processes; gradients pass."""
    if world() == 1:
        return x
    out: Tensor = _Sum.apply(x)
    return out


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, first process first: (B, ...) -> (world · B, ...), any dtype; gradients pass."""
    if world() == 1:
        return x
    rows = [torch.zeros_like(x)] * world()
    rows[dist.get_rank()] = x
    every = torch.cat(rows)
    return total(every.byte()).bool() if x.dtype == torch.bool else total(every)


def rand(*size: int, device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1), the same in all processes: those of the first one."""
    numbers = torch.rand(size, device=device)
    return numbers if world() == 1 else total(numbers if dist.get_rank() == 0 else torch.zeros_like(numbers))
