"""The timm backbone that all networks share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rc2l_bench.config import NetConfig
from rc2l_bench.errors import UsageError, suggest
from rc2l_bench.nets.maskformer_weights import load_maskformer
from rc2l_bench.nets.weights import WEIGHTS_VARIABLE, check_weights, find_weights, maskformer_file, weight_folders

STRIDES = (4, 8, 16, 32)
"""Of the levels that networks want, cut off at the output stride."""
_TRIED = (64, 96)
"""Height and width of the image on which a new extractor is tried."""
_REFUSALS = (RuntimeError, TypeError, ValueError, KeyError, NotImplementedError, AssertionError)
"""What timm raises where a model cannot do what is asked of it."""


def create_features(net: NetConfig) -> nn.Module:
    """Create a timm feature extractor with four levels, nominally at strides 4, 8, 16, 32.

    Raises:
        UsageError: timm does not know the backbone, it has no such levels, cannot do this output stride, takes images
            of one size only, or its weights are missing.
    """
    if not timm.is_model(net.backbone):
        raise UsageError(
            f"net.backbone: timm has no model '{net.backbone}'; {suggest(net.backbone, timm.list_models())[:200]}"
        )
    # A checkpoint of MaskFormer is in another layout and loaded by `Backbone`.
    file = None if maskformer_file(net) else find_weights(net)
    try:
        probe: Any = timm.create_model(net.backbone, features_only=True)
    except _REFUSALS as error:
        raise UsageError(f"net.backbone: {net.backbone} gives no features: {_reason(error)}") from None
    if file:
        check_weights(file, probe, net.backbone)
    levels = choose_levels([level["reduction"] for level in probe.feature_info.info], net.backbone)
    wanted: dict[str, Any] = {"out_indices": levels}
    # Many families know no `output_stride`, which they need not where they have it anyway.
    if net.output_stride != STRIDES[-1]:
        wanted["output_stride"] = net.output_stride
    features = _create(net, file, wanted)
    if fault := _find_fault(features, net):
        # Families with windows of attention are tied to the size of their pretraining, unless they are told not to be.
        try:
            features = _create(net, file, wanted | {"strict_img_size": False})
        except UsageError:
            raise UsageError(f"net.backbone: {net.backbone}: {fault}") from None
        if _find_fault(features, net):
            raise UsageError(f"net.backbone: {net.backbone}: {fault}")
    return features


def choose_levels(reductions: Sequence[int], backbone: str) -> list[int]:
    """Choose the deepest level of each stride that networks want, by its index in timm's own list.

    Args:
        reductions: stride of every level that the model has, in timm's order; several may have one stride.
        backbone: for messages.

    Raises:
        UsageError: a stride is missing.
    """
    deepest = {stride: index for index, stride in enumerate(reductions)}
    if missing := [stride for stride in STRIDES if stride not in deepest]:
        raise UsageError(
            f"net.backbone: {backbone} has features at strides {', '.join(map(str, sorted(deepest)))}, but none at "
            f"{' and '.join(map(str, missing))}: choose a backbone with strides {', '.join(map(str, STRIDES))}"
        )
    return [deepest[stride] for stride in STRIDES]


def _create(net: NetConfig, file: Path | None, wanted: dict[str, Any]) -> nn.Module:
    overlay = {"file": str(file)} if file else None
    try:
        features: nn.Module = timm.create_model(
            net.backbone,
            features_only=True,
            pretrained=net.weights != "none" and not maskformer_file(net),
            pretrained_cfg_overlay=overlay,
            **wanted,
        )
    except _REFUSALS as error:
        if "output_stride" in wanted:
            raise UsageError(
                f"net.output_stride: {net.backbone} cannot have {net.output_stride}, only its own, {STRIDES[-1]}: "
                "write that, or choose a backbone that can be dilated"
            ) from None
        raise UsageError(f"net.backbone: {net.backbone}: {_reason(error)}") from None
    except OSError:
        folders = ", ".join(str(folder) for folder in weight_folders())
        raise UsageError(
            f"net.weights: {net.backbone}.safetensors is in none of {folders}, and it could not be downloaded: "
            f"put it there, point {WEIGHTS_VARIABLE} to its folder, or set weights to none"
        ) from None
    return features


def _find_fault(features: nn.Module, net: NetConfig) -> str | None:
    """What is wrong with the maps that an extractor gives of a small image; None = they are as wanted."""
    mode = features.training
    try:
        with torch.no_grad():
            maps = channels_first(features.eval()(torch.zeros(1, 3, *_TRIED)), features)
    except _REFUSALS as error:
        return f"cannot see an image of {_TRIED[0]}×{_TRIED[1]}: {_reason(error)}"
    finally:
        features.train(mode)
    info: Any = features.feature_info
    for stride, channels, found in zip(STRIDES, info.channels(), maps, strict=True):
        step = min(stride, net.output_stride)
        expected = (channels, -(-_TRIED[0] // step), -(-_TRIED[1] // step))
        if found.shape[1:] != expected:
            shapes = "×".join(map(str, found.shape[1:])), "×".join(map(str, expected))
            return f"its map at stride {step} is {shapes[0]} for an image of {_TRIED[0]}×{_TRIED[1]}, not {shapes[1]}"
    return None


def _reason(error: Exception) -> str:
    """What an exception says, in one line; its kind where it says nothing."""
    return " ".join(str(error).split())[:200] or f"timm raises {type(error).__name__}"


def channels_first(maps: list[Tensor], features: nn.Module) -> list[Tensor]:
    """Maps of an extractor as (B, C, h, w); some families give (B, h, w, C) and say so."""
    if getattr(features, "output_fmt", "NCHW") == "NHWC":
        return [x.permute(0, 3, 1, 2).contiguous() for x in maps]
    return maps


class Backbone(nn.Module):
    """A timm backbone that takes images in [0, 1].

    Attributes:
        channels: channels of the four outputs.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: NetConfig) -> None:
        super().__init__()
        self.features = create_features(net)
        info: Any = self.features.feature_info
        self.channels: list[int] = info.channels()
        for name in ("mean", "std"):
            value = torch.tensor(timm.models.get_pretrained_cfg_value(net.backbone, name) or (0.5, 0.5, 0.5))
            self.register_buffer(name, value.view(1, 3, 1, 1), persistent=False)
        if maskformer_file(net) and (file := find_weights(net)):
            load_maskformer(self, file, "backbone.")

    def forward(self, image: Tensor) -> list[Tensor]:
        """Give the features of images (B, 3, H, W) in [0, 1], normalised here as the pretrained weights expect.

        Returns:
            Four maps; their strides are 4, 8, 16, 32, cut off at the output stride.
        """
        return channels_first(self.features((image - self.mean) / self.std), self.features)


def resize(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Interpolate maps (B, C, h, w) bilinearly to a height and width; corners are not aligned."""
    return x if x.shape[-2:] == tuple(size) else F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
