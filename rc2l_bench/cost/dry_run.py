"""Carry out a step and the evaluation of an image at full size on tensors without values, and tell what a run takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from rc2l_bench.config import Protocol
from rc2l_bench.cost.symbolic import count_flops, forget_values, make_batch
from rc2l_bench.cost.worst_case import worst_case
from rc2l_bench.methods.contract import Method, build, load_config
from rc2l_bench.run.cell import vary_protocol
from rc2l_bench.run.evaluate import predict_logits
from rc2l_bench.types import Batch
from rc2l_bench.variants import protocol_changes

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class FullRun:
    """What a whole run takes, in FLOPs of matrix products and convolutions; one multiply-add counts as 2.

    Attributes:
        step: of a training step, forward and backward.
        image: of the evaluation of one image, all of its windows, scales and mirror images.
        steps: of the budget.
        images: that are scored during the run, all evaluations together.
    """

    step: int
    image: int
    steps: int
    images: int

    @property
    def flops(self) -> int:
        """Of the whole run."""
        return self.step * self.steps + self.image * self.images


def dry_run(name: str, protocol: Protocol, num_classes: int, size: tuple[int, int], images: int) -> FullRun:
    """Take a step and evaluate an image under a protocol, at its own size.

    Nothing is allocated and no number is computed: shapes alone. Choices that depend on values take their worst case.

    Args:
        name: id of the method, with the numbers of its yaml.
        protocol: of the run; pretrained weights need not be there.
        num_classes: K.
        size: height and width of an image of the validation part.
        images: of the validation part.

    Raises:
        UsageError: timm does not have the backbone, or not at this output stride.
    """
    protocol = vary_protocol(protocol, protocol_changes(name), name)
    with without_values(name, protocol, num_classes) as method:
        batch = make_batch(protocol, method.config.views.strong, method.unlabelled, num_classes)
        step = _count(lambda: learn(method, batch, 1 - 1 / protocol.steps))
        method.eval()
        image = torch.zeros(1, 3, *size, dtype=torch.uint8)
        scored = _count(lambda: predict_logits(method.predict, image, protocol.eval, protocol.image_scale, CPU))
    return FullRun(step=step, image=scored, steps=protocol.steps, images=images * protocol.eval.evaluations)


@contextmanager
def without_values(name: str, protocol: Protocol, num_classes: int) -> Iterator[Method]:
    """Make a method whose networks have no values; tensors that are made inside have none either.

    Args:
        name: id of the method, with the numbers of its yaml.
        protocol: that it is trained under; pretrained weights need not be there.
        num_classes: K.

    Yields:
        The method, ready to train.
    """
    net = protocol.net.model_copy(update={"weights": "none"})
    protocol = protocol.model_copy(update={"net": net})
    # Made without values from the start, which saves seconds for a deep network; autocast knows no such device, so that
    # what is computed with is on the CPU, as far as anybody can tell.
    with torch.device("meta"):
        method = build(name, load_config(name), protocol, num_classes).train()
    with FakeTensorMode(), worst_case():
        forget_values(method)
        yield method


def learn(method: Method, batch: Batch, progress: float) -> None:
    """Carry out the forward and the backward pass of a training step.

    Args:
        method: whose gradients grow.
        batch: of the step.
        progress: share of the budget that is spent, in [0, 1).
    """
    losses: dict[str, Tensor] = method(batch, progress)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]


def _count(function: Callable[[], object]) -> int:
    counter = count_flops()
    with counter:
        function()
    return counter.get_total_flops()
