"""The optimiser of a protocol, its schedule, and the steps after which one evaluates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from rc2l_bench.config import OptimiserConfig
from rc2l_bench.methods.contract import Method
from rc2l_bench.nets.backbone import Backbone


def learning_rate(optimiser: OptimiserConfig, step: int, steps: int) -> float:
    """Poly schedule in closed form, so that a resumed run sees the same bits."""
    return float(optimiser.lr * (1 - step / steps) ** optimiser.power)


def build_optimiser(method: Method, config: OptimiserConfig) -> torch.optim.Optimizer:
    """The optimiser of the protocol; `lr_scale` of a parameter group multiplies its learning rate."""
    backbones = (
        [module for module in method.modules() if isinstance(module, Backbone)] if config.layer_decay < 1 else []
    )
    depths = {parameter: depth for backbone in backbones for parameter, depth in backbone.depths().items()}
    groups = [
        {"params": parameters, "lr_scale": scale}
        for together, is_head in method.param_groups()
        for scale, parameters in _scale(together, config.head_lr if is_head else 1.0, depths, config.layer_decay)
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    betas = (config.momentum, 0.999)
    return torch.optim.AdamW(groups, config.lr, betas=betas, weight_decay=config.weight_decay, fused=True)


def _scale(
    together: Sequence[nn.Parameter], scale: float, depths: Mapping[nn.Parameter, int], decay: float
) -> list[tuple[float, list[nn.Parameter]]]:
    """Take parameters apart by their layer: (multiple of the learning rate, parameters); heads have no depth.

    The rate falls by `decay` from layer to layer (Bao et al., "BEiT", ICLR 2022, and before; here the deepest layer
    itself learns at the rate of the backbone, our choice).
    """
    apart: dict[int, list[nn.Parameter]] = {}
    for parameter in together:
        apart.setdefault(depths.get(parameter, 0), []).append(parameter)
    return [(scale * decay**depth, parameters) for depth, parameters in apart.items()]


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """Steps after which the validation part is scored: evenly spaced, the last one always."""
    return {math.ceil(steps * i / evaluations) for i in range(1, evaluations + 1)}
