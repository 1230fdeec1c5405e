"""Forward and backward pass of a training step: of the batch at once, or of its parts in turn."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from rc2l_bench.config import Levers
from rc2l_bench.methods.contract import Method
from rc2l_bench.run.clock import Clock
from rc2l_bench.run.levers import backward_pass, divide, weigh
from rc2l_bench.types import Batch


class Objective(nn.Module):
    """What Fabric wraps: a method that is given the tensors of a batch by name.

    Fabric casts what goes into a module tensor by tensor, and cannot write into the frozen `Batch`.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, progress: float, **tensors: Tensor) -> dict[str, Tensor]:
        """The losses of the batch that the tensors make up; see `Method.losses`."""
        losses: dict[str, Tensor] = self.method(Batch(**tensors), progress)
        return losses


class Passes:
    """Makes the gradients of a step."""

    def __init__(self, fabric: Fabric, model: Any, method: Method, levers: Levers, clock: Clock) -> None:  # noqa: ANN401 - wrapped by Fabric
        """Say what is trained.

        Args:
            fabric: device, precision, processes.
            model: `Objective` of the method, as Fabric has wrapped it.
            method: the bare one.
            levers: how a batch is learnt from.
            clock: times both passes.
        """
        self.fabric, self.model, self.method, self.levers, self.clock = fabric, model, method, levers, clock

    def carry_out(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Add the gradients of a batch to those of the parameters.

        Args:
            batch: of the step.
            progress: share of the budget that is spent.

        Returns:
            The losses of the batch by name, and their sum as `loss`.
        """
        found: dict[str, Tensor] = {}
        for number, (part, share) in enumerate(divide(self.method, batch, self.levers), 1):
            # Gradients of several processes are exchanged once, with those of the last part.
            with self.fabric.no_backward_sync(self.model, enabled=number < self.levers.accumulate):
                losses = self._learn(part, share, progress)
            found = {name: found[name] + value for name, value in losses.items()} if found else losses
        return found

    def _learn(self, part: Batch, share: dict[str, Tensor] | None, progress: float) -> dict[str, Tensor]:
        with self.clock.time("forward"):
            losses: dict[str, Tensor] = weigh(self.model(progress, **part.tensors()), share)
            total = torch.stack(list(losses.values())).sum()
        with self.clock.time("backward"), backward_pass(self.method, self.levers):
            self.fabric.backward(total)
        return {name: value.detach() for name, value in (losses | {"loss": total}).items()}
