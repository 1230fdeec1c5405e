"""Sums over the processes of one training, so that a batch means the same however it is spread over them.

The one convention: gradients are averaged over the processes after the backward pass (as DistributedDataParallel does),
and every process holds the same number of images. In one process every function here is the identity.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


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


class SynchronisedNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes, on any device; torch's own needs CUDA."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W), normalised; followed by the activation that timm puts into its batch norms."""
        out = self._normalise(x) if self.training and world() > 1 else super().forward(x)
        for name in ("drop", "act"):
            out = self._modules[name](out) if name in self._modules else out  # type: ignore[misc]
        return out

    def _normalise(self, x: Tensor) -> Tensor:
        count = x.numel() // x.shape[1] * world()
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = total(wide.sum((0, 2, 3))) / count
        centred = wide - mean[:, None, None]
        variance = total(centred.square().sum((0, 2, 3))) / count
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.detach(), self.momentum)
        self.running_var.lerp_(variance.detach() * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def synchronise(module: nn.Module) -> None:
    """Makes every batch norm inside a module see the images of all processes; state and names stay the same."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.__class__ = SynchronisedNorm
