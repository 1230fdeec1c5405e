"""What levers cost or gain in time, on the CPU: a step of FixMatch at the size of CamVid. `python -m perf.levers`.

Processor seconds of one thread, levers and the plain step in turn. What a card would say is another question.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from perf import Row, alternate, show
from rc2l_bench.config import NO_LEVERS, Levers, Params, Protocol, load
from rc2l_bench.cost.symbolic import make_batch
from rc2l_bench.cost.worker import trust
from rc2l_bench.methods.contract import build, load_config
from rc2l_bench.run.hardware import keep_memory, open_fabric
from rc2l_bench.run.train import Trainer
from rc2l_bench.runtime import Runtime

METHOD = "baselines/fixmatch"
CLASSES = 11
ROUNDS = 9
LEVERS = {"accumulate: 2": {"accumulate": 2}, "checkpoint_activations": {"checkpoint_activations": True},
          "compile": {"compile": True}}  # fmt: skip


def make_step(protocol: Protocol, runtime: Runtime, levers: Levers) -> Callable[[], None]:
    """Training steps with levers on, at the end of the budget, on one made-up batch."""
    fabric = open_fabric(runtime)
    torch.manual_seed(0)
    config = trust(load_config(METHOD))
    method = build(METHOD, config, protocol, CLASSES)
    trainer = Trainer(fabric, method, protocol, runtime.model_copy(update={"levers": levers}), seed=0)
    batch = make_batch(protocol, config.views.strong, method.unlabelled, CLASSES)
    method.train()

    def step() -> None:
        trainer.passes.carry_out(batch, 1.0)
        trainer.stepper.step()
        trainer.stepper.zero_grad()
        method.after_step()

    return step


def measure() -> list[Row]:
    """The ratios."""
    torch.set_num_threads(1)
    keep_memory()
    params = load(Params, Path("params.yaml"))
    protocol = params.protocol_of("camvid")
    # Time does not depend on where the weights come from.
    protocol = protocol.model_copy(update={"net": protocol.net.model_copy(update={"weights": "none"})})
    steps = {"plain": make_step(protocol, params.runtime, NO_LEVERS)}
    for name, changes in LEVERS.items():
        steps[name] = make_step(protocol, params.runtime, NO_LEVERS.model_copy(update=changes))
    seconds = alternate(steps, ROUNDS, time.process_time)
    return [Row(f"step of fixmatch with {name} / without", seconds[name] / seconds["plain"]) for name in LEVERS]


if __name__ == "__main__":
    show(measure())
