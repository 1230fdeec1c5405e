"""Estimate a training step at any size without the hardware: memory by kind and FLOPs, on tensors without values."""

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
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from rc2l_bench.config import NO_LEVERS, Levers, Protocol
from rc2l_bench.cost.worst_case import worst_case
from rc2l_bench.methods.contract import MethodConfig, build, load_class
from rc2l_bench.run.allocations import take_step
from rc2l_bench.run.levers import check_levers, pull_levers
from rc2l_bench.run.optimiser import build_optimiser
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
"""Our names by those of torch's tracker."""


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401
    return int(sdpa_backward_flop_count(gradient, query, key, value))  # type: ignore[no-untyped-call]


_ATEN = torch.ops.aten
FUSED = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""Attention as one kernel of the CPU, which torch counts as nothing (pytorch issue 195460)."""


def count_flops() -> FlopCounterMode:
    """Make a counter of FLOPs that knows attention on the CPU."""
    return FlopCounterMode(display=False, custom_mapping=FUSED)


@dataclass(frozen=True, kw_only=True)
class StepEstimate:
    """Needs of a training step.

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
        # Peaks of single modules are left out: they take four fifths of the time, and nobody asks for them.
        modules, self.memory_tracking = self.memory_tracking, WeakIdKeyDictionary()
        super()._update_peak_stats(peak_state)
        self.memory_tracking = modules

    def _pre_fw_hook(self, module: nn.Module, inputs: Any) -> None:  # noqa: ANN401 - private to torch
        # A batch that is learnt from in parts passes the outermost module several times.
        modules: Any = self._mod_tracker
        outermost = len(modules.parents - {modules.get_known_fqn(module)}) == 1
        if outermost and not modules.is_bw:
            self.reset_mod_stats()
        super()._pre_fw_hook(module, inputs)

    def exempt_frozen(self, module: object) -> None:
        """Register frozen parameters as hooked: the tracker would hook all, and torch refuses where no gradient is."""
        for parameter in module.parameters() if isinstance(module, nn.Module) else ():
            if not parameter.requires_grad:
                hooks = (RemovableHandle(OrderedDict()), RemovableHandle(OrderedDict()))
                self._param_to_grad_hook_handles[parameter] = hooks


def make_batch(protocol: Protocol, views: int, unlabelled: bool, num_classes: int) -> Batch:
    """Make up a batch of the sizes of a protocol, in which every labelled image has every class in stripes.

    Args:
        protocol: crop and numbers of images.
        views: strong views.
        unlabelled: whether there are unlabelled images.
        num_classes: K.

    Returns:
        Images of noise; CutMix boxes over a quarter of the image; all pixels valid.
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
    """Track memory and FLOPs of a function, whose tensors may be fake.

    Args:
        function: runs once.
        known: what exists before and counts, too: modules, optimisers, tensors.

    Returns:
        Memory at the moment when all kinds together are largest, over all devices.
    """
    tracker, counter = Tracker(), count_flops()
    known = list(known)
    # In this order: what the tracker was told of before it starts belongs to its peak from the first moment.
    tracker.track_external(*known)
    for one in known:
        tracker.exempt_frozen(one)
    with tracker, counter:
        function()
    memory = dict.fromkeys(KINDS.values(), 0)
    for snapshot in tracker.get_tracker_snapshot("peak").values():
        for kind, size in snapshot.items():
            if kind != "Total":
                # The tracker's kinds are members of an enumeration; only its total is plain text.
                memory[KINDS[getattr(kind, "value", kind)]] += size
    return StepEstimate(memory=memory, flops=counter.get_total_flops())


def forget_values(model: nn.Module) -> None:
    """Replace parameters and buffers by fake tensors of the same form; to be called in a `FakeTensorMode`.

    Args:
        model: changed in place.
    """
    # By the tensor that it replaces, so that modules which share a parameter still do.
    fake: dict[Tensor, Tensor] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, value in table.items():
                if value is not None:
                    if value not in fake:
                        fake[value] = _like(value)
                    table[name] = fake[value]  # type: ignore[assignment]


def _like(value: Tensor) -> Tensor:
    """Make a tensor of the same shape, strides and type: with other strides, kernels would copy where they do not."""
    empty = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
    return nn.Parameter(empty, value.requires_grad) if isinstance(value, nn.Parameter) else empty


def fill_state(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Make the optimiser hold what it holds after a first step: it makes its moments when it first sees gradients."""
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
    optimiser.step()
    optimiser.zero_grad()


def estimate_step(
    method: str,
    config: MethodConfig,
    protocol: Protocol,
    num_classes: int,
    most_regions: int | None = None,
    levers: Levers = NO_LEVERS,
) -> StepEstimate:
    """Estimate one step of a method, past its warm-ups, with an optimiser that has taken steps before.

    Args:
        method: id.
        config: its numbers.
        protocol: networks, crop, batch, optimiser.
        num_classes: K.
        most_regions: see `worst_case`.
        levers: that are pulled; a compiled step is not estimated, because nothing is compiled here.

    Raises:
        UsageError: timm does not have the backbone, or not at this output stride; a lever does not fit the method.
    """
    # Pretrained weights would have to be there, and have the size of any others.
    net = protocol.net.model_copy(update={"weights": "none"})
    protocol = protocol.model_copy(update={"net": net})
    progress, clip = 1 - 1 / protocol.steps, protocol.optimiser.clip
    with ExitStack() as stack:
        # Built with values: a teacher is a deep copy, and those of fake tensors fail ("set the storage of a tensor").
        model = build(method, config, protocol, num_classes).to(memory_format=torch.channels_last).train()
        check_levers(model, protocol, levers)
        pull_levers(model, levers.model_copy(update={"compile": False}))
        stack.enter_context(FakeTensorMode())
        forget_values(model)
        optimiser = build_optimiser(model, protocol.optimiser)
        batch = make_batch(protocol, config.views.strong, load_class(method).unlabelled, num_classes)
        # Entered last, so that it sees operations first: what needs values never reaches the fake tensors, which refuse
        # it.
        stack.enter_context(worst_case(most_regions))
        # The first step of a training holds less than all that follow.
        fill_state(model, optimiser)
        step = partial(take_step, model, optimiser, batch, progress, clip, levers)
        return track(step, [model, optimiser, *batch.tensors().values()])
