"""MaskFormer checkpoints in the layout of transformers, as weights of our networks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rc2l_bench.errors import UsageError

HEAD, QUERIES = ("classify.weight", "classify.bias"), "queries.query"
PARTS = re.compile(r"(.+\.)([qkv])_proj\.(weight|bias)")
"""Projections that transformers keeps apart and torch's attention in one tensor."""


def _next(name: str) -> Callable[[re.Match[str]], str]:
    """Number from 1 what transformers numbers from 0."""
    return lambda found: f"{name}{int(found[1]) + 1}"


SPELLINGS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^model\.pixel_level_module\.encoder\.(encoder\.)?", "backbone.features."),
    (r"embedder\.embedder\.convolution", "conv1"),
    (r"embedder\.embedder\.normalization", "bn1"),
    (r"stages\.(\d+)\.layers", _next("layer")),
    (r"layer\.(\d+)\.convolution", _next("conv")),
    (r"layer\.(\d+)\.normalization", _next("bn")),
    (r"shortcut\.convolution", "downsample.0"),
    (r"shortcut\.normalization", "downsample.1"),
    (r"^model\.pixel_level_module\.decoder\.(fpn\.)?", "pixels."),
    (r"^pixels\.stem", "pixels.top.0"),
    (r"^pixels\.layers\.(\d+)\.proj", r"pixels.lateral.\1"),
    (r"^pixels\.layers\.(\d+)\.block", r"pixels.smooth.\1.0"),
    (r"mask_projection", "project"),
    (r"^model\.transformer_module\.(decoder\.)?", "queries."),
    (r"queries_embedder\.weight", "query"),
    (r"input_projection", "project"),
    (r"layernorm", "norm"),
    (r"self_attn_layer_norm", "norms.0"),
    (r"encoder_attn_layer_norm", "norms.1"),
    (r"final_layer_norm", "norms.2"),
    # Both spellings that releases of transformers have written.
    (r"(mlp\.)?fc1", "feedforward.0"),
    (r"(mlp\.)?fc2", "feedforward.3"),
    (r"\.o_proj", ".out_proj"),
    (r"self_attn", "among"),
    (r"encoder_attn", "across"),
    (r"^class_predictor", "classify"),
    (r"^mask_embedder\.(\d+)\.0", lambda found: f"embed.{2 * int(found[1])}"),
)
"""What is written instead of what, one after the other."""


def rename(name: str) -> str:
    """Give our name of a tensor of transformers' `MaskFormerForInstanceSegmentation` with a ResNet."""
    for theirs, ours in SPELLINGS:
        name = re.sub(theirs, ours, name)
    return name


def read_maskformer(file: Path) -> dict[str, Tensor]:
    """Read a checkpoint under the names of `RegionNet`.

    Raises:
        UsageError: it is no whole safetensors file, or holds no MaskFormer.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            found = {rename(name): stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise UsageError(f"net.weights: {file}: not a whole safetensors file ({error})") from None
    if QUERIES not in found:
        raise UsageError(f"net.weights: {file}: no MaskFormer in transformers' layout: no 'model.transformer_module'")
    return _join_projections(found)


def _join_projections(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put queries', keys' and values' projections into the one tensor that torch's attention has."""
    joined = {name: tensor for name, tensor in found.items() if not PARTS.fullmatch(name)}
    for name in found:
        part = PARTS.fullmatch(name)
        if part and part[2] == "q":
            three = [found.get(f"{part[1]}{letter}_proj.{part[3]}") for letter in "qkv"]
            if all(tensor is not None for tensor in three):
                joined[f"{part[1]}in_proj_{part[3]}"] = torch.cat([tensor for tensor in three if tensor is not None])
    return joined


def load_maskformer(network: nn.Module, file: Path, prefix: str = "") -> None:
    """Start a RegionNet, or a part of one, from a checkpoint.

    Our choice: the class head stays as it was drawn when the checkpoint has another number of classes, and of more
    queries than the network has the first ones are taken. All else must be there.

    Args:
        network: its state is overwritten.
        file: see `read_maskformer`.
        prefix: where in a RegionNet it stands, for instance `backbone.`.

    Raises:
        UsageError: see `read_maskformer`; or a tensor is missing or has another shape.
    """
    found, own = read_maskformer(file), network.state_dict()
    state = {}
    for name, tensor in own.items():
        given = found.get(f"{prefix}{name}")
        if given is not None and name == QUERIES:
            given = given[: len(tensor)]
        if given is not None and given.shape == tensor.shape:
            state[name] = given
        elif name not in HEAD and tensor.is_floating_point():
            shape = "none" if given is None else f"one of {list(given.shape)}"
            raise UsageError(
                f"net.weights: {file}: needed '{prefix}{name}' of {list(tensor.shape)}, found {shape}: "
                "set net.backbone and net.region to what the checkpoint has"
            )
    network.load_state_dict(own | state)
