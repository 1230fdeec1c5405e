"""What a backbone can do, without training anything."""

from __future__ import annotations

from typing import Any

import timm

from rc2l_bench.config import NetConfig
from rc2l_bench.errors import UsageError
from rc2l_bench.nets.backbone import Backbone
from rc2l_bench.nets.features import STRIDES
from rc2l_bench.nets.weights import find_weights

CROPS = (321, 513, 769, 801)
"""Sides of the crops of published recipes."""


def examine(name: str) -> list[tuple[str, str]]:
    """Examine a backbone of timm with fresh weights.

    Args:
        name: timm's.

    Returns:
        What is asked, and what was found: levels, strides, parameters, sizes of crops, where its weights are.

    Raises:
        UsageError: timm does not know it, or it cannot serve; says why.
    """
    backbone = Backbone(_net(name))
    fine = ", ".join(f"{stride:g}" for stride in backbone.strides)
    levels = ", ".join(
        f"{lattice.stride:g} ({channels})"
        for lattice, channels in zip(backbone.lattices, backbone.channels, strict=True)
    )
    nearest = ", ".join(f"{crop} → {backbone.sizes.nearest(crop)}" for crop in CROPS)
    parts = "DeepLabv3+ and MaskFormer's pixel decoder" if backbone.hierarchical else f"DPT's reassembly to {fine}"
    return [
        ("backbone", name),
        ("strides of its levels (channels)", levels),
        ("behind it", parts),
        ("net.output_stride may be", ", ".join(map(str, _output_strides(name)))),
        ("parameters", f"{sum(p.numel() for p in backbone.parameters()):,}"),
        ("crops", backbone.sizes.describe()),
        ("nearest good crops", nearest),
        ("weights", _find(name)),
    ]


def _net(name: str, output_stride: int = STRIDES[-1], weights: str = "none") -> NetConfig:
    """Only what a backbone looks at."""
    settings: dict[str, Any] = {"backbone": name, "weights": weights, "output_stride": output_stride}
    return NetConfig.model_construct(**settings)


def _output_strides(name: str) -> list[int]:
    found = [STRIDES[-1]]
    for stride in (16, 8):
        try:
            Backbone(_net(name, stride))
        except UsageError:
            continue
        found.append(stride)
    return found


def _find(name: str) -> str:
    """Where pretrained weights are, as far as this machine knows."""
    if file := find_weights(_net(name, weights="imagenet")):
        return str(file)
    known = timm.models.get_pretrained_cfg(name)
    if known is None or not known.has_weights:
        return "none are known to timm"
    return f"not here: {name}.safetensors is looked for, else timm downloads {known.hf_hub_id or known.url}"
