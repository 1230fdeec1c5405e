"""The optimiser of a protocol, its schedule, and the steps after which one evaluates."""

from __future__ import annotations

import math

import torch

from rc2l_bench.config import OptimiserConfig
from rc2l_bench.methods.contract import Method


def learning_rate(optimiser: OptimiserConfig, step: int, steps: int) -> float:
    """Poly schedule in closed form, so that a resumed run sees the same bits."""
    return float(optimiser.lr * (1 - step / steps) ** optimiser.power)


def build_optimiser(method: Method, config: OptimiserConfig) -> torch.optim.Optimizer:
    """The optimiser of the protocol; `lr_scale` of a parameter group multiplies its learning rate."""
    groups = [
        {"params": parameters, "lr_scale": config.head_lr if is_head else 1.0}
        for parameters, is_head in method.param_groups()
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    betas = (config.momentum, 0.999)
    return torch.optim.AdamW(groups, config.lr, betas=betas, weight_decay=config.weight_decay, fused=True)


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """Steps after which the validation part is scored: evenly spaced, the last one always."""
    return {math.ceil(steps * i / evaluations) for i in range(1, evaluations + 1)}
