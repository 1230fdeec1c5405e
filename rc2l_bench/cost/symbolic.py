"""One training step at any size without the hardware: memory by kind and FLOPs, from tensors that have no values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from rc2l_bench.config import Protocol
from rc2l_bench.cost.worst_case import worst_case
from rc2l_bench.methods.contract import MethodConfig, build, load_class
from rc2l_bench.run.allocations import take_step
from rc2l_bench.run.train import build_optimiser
from rc2l_bench.types import Batch

KINDS = {
    "Parameter": "parameters",
    "Buffer": "parameters",
    "Gradient": "gradients",
    "Optstate": "optimiser",
    "Activation": "activations",
    "Temp": "temporaries",
    "Other": "batch",
}
"""Names of torch's tracker, and ours."""


@dataclass(frozen=True, kw_only=True)
class StepEstimate:
    """What a training step needs.

    Attributes:
        memory: bytes by kind at the moment of the peak: parameters (teachers and buffers included), gradients,
            optimiser, activations, temporaries (of the backward pass), batch.
        flops: of matrix products and convolutions, forward and backward; one multiply-add = 2.
    """

    memory: dict[str, int]
    flops: int

    @property
    def peak(self) -> int:
        """Bytes of all kinds together."""
        return sum(self.memory.values())


class Tracker(MemTracker):  # type: ignore[no-untyped-call]
    """Torch's tracker, for whole steps and for networks with frozen parts."""

    def _update_peak_stats(self, peak_state: Any) -> None:  # noqa: ANN401 - private to torch
        # Not of single modules, which would take four fifths of the time.
        modules, self.memory_tracking = self.memory_tracking, WeakIdKeyDictionary()
        super()._update_peak_stats(peak_state)
        self.memory_tracking = modules

    def exempt_frozen(self, module: object) -> None:
        """Makes believe that frozen parameters are hooked into: they cannot be, because they have no gradient."""
        for parameter in module.parameters() if isinstance(module, nn.Module) else ():
            if not parameter.requires_grad:
                hooks = (RemovableHandle(OrderedDict()), RemovableHandle(OrderedDict()))
                self._param_to_grad_hook_handles[parameter] = hooks


def make_batch(protocol: Protocol, views: int, unlabelled: bool, num_classes: int) -> Batch:
    """A batch of the sizes of a protocol, in which every image has every class in stripes.

    Args:
        protocol: crop and numbers of images.
        views: strong views.
        unlabelled: whether there are unlabelled images.
        num_classes: K.
    """
    height, width = protocol.crop
    few, many = protocol.batch.labelled, protocol.batch.unlabelled if unlabelled else 0
    label = (torch.arange(width) * num_classes // width).expand(few, height, width).contiguous()
    box = torch.zeros(views, many, height, width, dtype=torch.bool)
    box[..., : height // 2, : width // 2] = True
    return Batch(
        image=torch.rand(few, 3, height, width),
        label=label,
        weak=torch.rand(many, 3, height, width),
        strong=torch.rand(views, many, 3, height, width),
        box=box,
        valid=torch.ones(many, height, width, dtype=torch.bool),
    )


def track(function: Callable[[], object], known: Iterable[nn.Module | Tensor | torch.optim.Optimizer]) -> StepEstimate:
    """Memory and FLOPs of a function, whose tensors may be fake; what is known before counts, too."""
    tracker, counter = Tracker(), FlopCounterMode(display=False)
    known = list(known)
    tracker.track_external(*known)
    for one in known:
        tracker.exempt_frozen(one)
    with tracker, counter:
        function()
    memory = dict.fromkeys(KINDS.values(), 0)
    for snapshot in tracker.get_tracker_snapshot("peak").values():
        for kind, size in snapshot.items():
            if kind != "Total":
                memory[KINDS[getattr(kind, "value", kind)]] += size
    return StepEstimate(memory=memory, flops=counter.get_total_flops())


def forget_values(model: nn.Module) -> None:
    """Replaces parameters and buffers by fake tensors of the same form, in a `FakeTensorMode`."""
    fake: dict[Tensor, Tensor] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, value in table.items():
                if value is not None:
                    if value not in fake:
                        fake[value] = _like(value)
                    table[name] = fake[value]  # type: ignore[assignment]


def _like(value: Tensor) -> Tensor:
    empty = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
    return nn.Parameter(empty, value.requires_grad) if isinstance(value, nn.Parameter) else empty


def fill_state(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Makes the optimiser hold what it holds after a first step."""
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
    optimiser.step()
    optimiser.zero_grad()


def estimate_step(
    method: str, config: MethodConfig, protocol: Protocol, num_classes: int, most_regions: int | None = None
) -> StepEstimate:
    """One step of a method, past its warm-ups, with an optimiser that has taken steps before.

    Args:
        method: id.
        config: its numbers.
        protocol: networks, crop, batch, optimiser.
        num_classes: K.
        most_regions: see `worst_case`.
    """
    net = protocol.net.model_copy(update={"weights": "none"})
    protocol = protocol.model_copy(update={"net": net})
    progress, clip = 1 - 1 / protocol.steps, protocol.optimiser.clip
    with ExitStack() as stack:
        model = build(method, config, protocol, num_classes).to(memory_format=torch.channels_last).train()
        stack.enter_context(FakeTensorMode())
        forget_values(model)
        optimiser = build_optimiser(model, protocol.optimiser)
        batch = make_batch(protocol, config.views.strong, load_class(method).unlabelled, num_classes)
        stack.enter_context(worst_case(most_regions))
        fill_state(model, optimiser)
        step = partial(take_step, model, optimiser, batch, progress, clip)
        return track(step, [model, optimiser, *batch.tensors().values()])
