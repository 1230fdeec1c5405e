"""Levers on the memory and the time of a step, which `runtime.levers` pulls; all of them are off by default.

`accumulate` learns from a batch in parts and steps once: the loss is that of the whole batch, but batch norm sees a
part at a time. `checkpoint_activations` computes the stages of the backbone again in the backward pass instead of
keeping what they computed: the same gradients. `compile` has torch compile the networks' parts for training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rc2l_bench.config import Levers, Protocol
from rc2l_bench.errors import UsageError
from rc2l_bench.methods.contract import Method
from rc2l_bench.methods.pixel_means import PixelMeans
from rc2l_bench.nets.backbone import Backbone
from rc2l_bench.processes import total, world
from rc2l_bench.types import Batch

PAIRED = ("strong", "box")
"""Fields of a batch whose images lie along the second axis."""


def check_levers(method: Method, protocol: Protocol, levers: Levers) -> None:
    """Refuse to learn in parts where they would not add up to the batch.

    Raises:
        UsageError: with the reason.
    """
    parts, sizes = levers.accumulate, protocol.batch
    if parts == 1:
        return
    unlabelled = sizes.unlabelled if method.unlabelled else 0
    name = f"runtime.levers.accumulate: {parts}"
    if not isinstance(method, PixelMeans):
        raise UsageError(
            f"{name}: not every loss of {type(method).__name__} is one mean over pixels that the batch alone tells, so "
            "that losses of parts would not add up to those of the batch: write 1"
        )
    if protocol.supervised_loss == "ohem":
        raise UsageError(f"{name}: ohem ranks the pixels of a whole batch: write 1, or supervised_loss: ce")
    if sizes.labelled % (parts * world()) or unlabelled % (2 * parts * world()):
        raise UsageError(
            f"{name}: {world()} processes cannot divide batches of {sizes.labelled} + {unlabelled} images into "
            "equal parts, the unlabelled ones in pairs: write a divisor"
        )


def pull_levers(method: Method, levers: Levers) -> None:
    """Prepare networks for the levers that are on; they stay as they are where none is.

    Raises:
        UsageError: timm has no checkpoints for the backbone.
    """
    if levers.checkpoint_activations:
        for module in method.modules():
            if isinstance(module, Backbone):
                _checkpoint(module)
    if levers.compile:
        for part in network_parts(method):
            part.compile()


def _checkpoint(backbone: Backbone) -> None:
    # timm's list of stages has the switch; where a model gives its own intermediate maps, the model has it.
    for net in (backbone.features, getattr(backbone.features, "model", None)):
        switch: Any = getattr(net, "set_grad_checkpointing", None)
        if switch is not None:
            switch(True)
            return
    raise UsageError(
        "runtime.levers.checkpoint_activations: timm has no checkpoints for this backbone: write false, or choose "
        "another one"
    )


def network_parts(method: nn.Module) -> Iterator[nn.Module]:
    """List the parts that networks are made of: a backbone, and what stands beside it.

    Methods call the parts, not the network, whose pass they open in between.
    """
    for module in method.modules():
        if isinstance(getattr(module, "backbone", None), Backbone):
            yield from module.children()


def divide(method: nn.Module, batch: Batch, levers: Levers) -> Iterator[tuple[Batch, dict[str, Tensor] | None]]:
    """Divide a batch into the parts that are learnt from in turn.

    Args:
        method: checked by `check_levers`.
        batch: L + U images of this process.
        levers: `accumulate` says how many parts; pairs of unlabelled images stay together.

    Yields:
        Parts, and the weight of each of its losses by name: its share of the pixels that the loss of the whole batch,
        over all processes, is a mean over. None = the batch as it is, which is no part.
    """
    if levers.accumulate == 1:
        yield batch, None
        return
    assert isinstance(method, PixelMeans)
    whole = {name: total(count).clamp(min=1) for name, count in method.pixels(batch).items()}
    for part in _parts(batch, levers.accumulate):
        yield part, {name: total(count) / whole[name] for name, count in method.pixels(part).items()}


def _parts(batch: Batch, count: int) -> Iterator[Batch]:
    pieces = {
        name: torch.tensor_split(tensor, count, dim=1 if name in PAIRED else 0)
        for name, tensor in batch.tensors().items()
    }
    return (Batch(**{name: of[number] for name, of in pieces.items()}) for number in range(count))


def weigh(losses: dict[str, Tensor], share: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """Multiply the losses of a part by its share; those of a whole batch stay as they are."""
    return losses if share is None else {name: value * share[name] for name, value in losses.items()}


@contextmanager
def backward_pass(method: nn.Module, levers: Levers) -> Iterator[None]:
    """Keep batch norm from counting a batch twice, while what was not kept of it is computed again."""
    if not levers.checkpoint_activations:
        yield
        return
    kept = {m: (m.momentum, m.num_batches_tracked) for m in method.modules() if isinstance(m, _BatchNorm)}
    for norm in kept:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in kept.items():
            norm.momentum, norm.num_batches_tracked = momentum, batches


def uncompiled(levers: Levers) -> Any:  # noqa: ANN401 - torch's context manager
    """Run what is inside as it was written: images of an evaluation differ in size, and each would be compiled for."""
    return torch.compiler.set_stance("force_eager") if levers.compile else nullcontext()
