"""Sum over the processes of one training, so that a batch means the same however it is spread over them.

The one convention: gradients are averaged over the processes after the backward pass (as DistributedDataParallel does),
and every process holds the same number of images. In one process every function here is the identity.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def world() -> int:
    """Return the number of processes of this training; 1 outside of `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Sum(torch.autograd.Function):
    """All-reduce whose backward pass is an all-reduce.

    With y = Σ_r x_r in every process and the loss Σ_s L_s(y), the gradient of x_r is Σ_s dL_s/dy: again a sum over all
    processes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        # `all_reduce` works in place, where other operations may have saved the input, and NCCL wants contiguous
        # memory.
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        return total(gradients[0])


def total(x: Tensor) -> Tensor:
    """Sum a tensor over all processes; gradients pass.

    Every process has to call this the same number of times in the same order, or all of them wait for ever.

    Args:
        x: numbers, of equal shape in all processes; not bool.

    Returns:
        Like `x`, equal in all processes.
    """
    if world() == 1:
        return x
    out: Tensor = _Sum.apply(x)
    return out


def gather(x: Tensor) -> Tensor:
    """Stack the rows of all processes, first process first; gradients pass.

    Args:
        x: (B, ...) of any dtype, B equal in all processes.

    Returns:
        (world · B, ...), equal in all processes.
    """
    if world() == 1:
        return x
    # A sum of tensors that are 0 outside of their own rows. Adding 0 is exact, also to infinity, and the backward pass
    # of `_Sum` serves here too, at the price of more bytes than an all-gather moves.
    rows = [torch.zeros_like(x)] * world()
    rows[dist.get_rank()] = x
    every = torch.cat(rows)
    # As bytes, because what a sum of bool is depends on the backend; at most one summand is 1.
    return total(every.byte()).bool() if x.dtype == torch.bool else total(every)


def rand(*size: int, device: torch.device) -> Tensor:
    """Draw uniform numbers from torch's global generator, the same in all processes: those of the first one.

    Args:
        size: shape.
        device: where they are drawn.

    Returns:
        float32 in [0, 1).
    """
    # All processes draw, so that what one of them draws next does not depend on whether it is the first.
    numbers = torch.rand(size, device=device)
    return numbers if world() == 1 else total(numbers if dist.get_rank() == 0 else torch.zeros_like(numbers))


class SynchronisedNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes, on any device; `torch.nn.SyncBatchNorm` needs CUDA.

    Every process has to hold the same number of images.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps, then apply the dropout and the activation that timm puts into its batch norms.

        Args:
            x: (B, C, H, W) of any floating dtype.

        Returns:
            Like `x`.
        """
        # In eval mode the running statistics are used, which all processes share: torch's own norm will do.
        out = self._normalise(x) if self.training and world() > 1 else super().forward(x)
        # `synchronise` turns `timm.layers.BatchNormAct2d` into this class, whose forward would leave these out.
        for name in ("drop", "act"):
            out = self._modules[name](out) if name in self._modules else out  # type: ignore[misc]
        return out

    def _normalise(self, x: Tensor) -> Tensor:
        """Normalise by the statistics of all processes, and update the running ones as `nn.BatchNorm2d` does."""
        count = x.numel() // x.shape[1] * world()
        # Sums over a million pixels in bfloat16 would lose the statistics; float64 stays float64.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = total(wide.sum((0, 2, 3))) / count
        # A second sum over centred values: E[x²] − E[x]² in one go cancels where the mean is large.
        centred = wide - mean[:, None, None]
        variance = total(centred.square().sum((0, 2, 3))) / count
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.detach(), self.momentum)
        # The running variance is the unbiased one, as torch's; the one that normalises is not.
        self.running_var.lerp_(variance.detach() * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def synchronise(module: nn.Module) -> None:
    """Make every batch norm inside a module see the images of all processes.

    Args:
        module: changed in place; names and values in its state stay the same, so checkpoints fit either way.
    """
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            # The class is swapped, not the module: parameters that an optimiser or a teacher already holds stay the
            # same objects, and subclasses keep their further parts.
            norm.__class__ = SynchronisedNorm
