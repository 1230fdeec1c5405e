"""The timm backbone that all networks share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rc2l_bench.config import NetConfig
from rc2l_bench.errors import UsageError, suggest
from rc2l_bench.nets.lattice import Lattice, SizeRule, find_lattices
from rc2l_bench.nets.maskformer_weights import load_maskformer
from rc2l_bench.nets.weights import check_weights, find_weights, maskformer_file, out_of_reach, require_reach

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
    elif net.weights == "imagenet":
        known = timm.models.get_pretrained_cfg(net.backbone)
        require_reach(net.backbone, known.hf_hub_id if known else None)
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
        raise UsageError(out_of_reach(net.backbone)) from None
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
    """Turn maps of an extractor into (B, C, h, w); some families give (B, h, w, C) and say so."""
    if getattr(features, "output_fmt", "NCHW") == "NHWC":
        return [x.permute(0, 3, 1, 2).contiguous() for x in maps]
    return maps


def pads_by_size(features: nn.Module) -> bool:
    """Tell whether strided layers pad as TensorFlow does: on the right first, by an amount that depends on the size."""
    same = (module for module in features.modules() if type(module).__name__.endswith("Same"))
    return any(max(_pair(module.stride)) > 1 for module in same)


def _pair(value: Any) -> tuple[int, int]:  # noqa: ANN401 - a layer's own attribute
    return (value, value) if isinstance(value, int) else tuple(value)


def read_geometry(features: nn.Module) -> tuple[list[Lattice], SizeRule]:
    """Find where the cells of a feature extractor's stages lie, and which sizes of images it takes.

    No values are computed. A network that takes only multiples of its coarsest stride does not show where its cells
    lie: they are said to tile the image, which may be off by half a cell, but by the same for every size.

    Raises:
        ValueError: its maps have no regular cells.
    """
    info: Any = features.feature_info
    strides: list[int] = info.reduction()
    shapes = {name: x.to("meta") for name, x in (*features.named_parameters(), *features.named_buffers())}

    @torch.no_grad()
    def cells_of(pixels: int) -> list[int]:
        image = torch.empty(1, 3, pixels, pixels, device="meta")
        maps = torch.func.functional_call(features, shapes, (image,))
        return [x.shape[-1] for x in channels_first(maps, features)]

    try:
        lattices = find_lattices(strides, cells_of)
    except (RuntimeError, AssertionError):
        lattices = [Lattice(float(stride), (stride - 1) / 2) for stride in strides]
    return lattices, choose_sizes(lattices, pads_by_size(features))


def choose_sizes(lattices: list[Lattice], by_size: bool) -> SizeRule:
    """Choose the sizes at which cells lie where their lattice says and every pixel is in some cell.

    Args:
        lattices: of the stages, fine to coarse.
        by_size: see `pads_by_size`; such layers pad alike on both sides where a size is 1 more than a multiple.
    """
    coarsest = math.ceil(max(lattice.stride for lattice in lattices))
    if by_size:
        return SizeRule(coarsest, 1)
    # Patches drop the pixels that do not fill one; convolutions that pad take any size.
    return SizeRule(coarsest, 0) if lattices[-1].offset > 0 else SizeRule(1, 0)


class Backbone(nn.Module):
    """A timm backbone that takes images in [0, 1] of any size.

    Attributes:
        channels: channels of the four outputs.
        lattices: where the cells of the four outputs lie.
        sizes: the heights and widths that it takes; others are padded here, and the padding's cells cut off again.
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
        try:
            self.lattices, self.sizes = read_geometry(self.features.eval())
        except ValueError as error:
            raise UsageError(f"net.backbone: {net.backbone}: {error}: take one whose maps have regular cells") from None
        self.features.train()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the features of images, normalised here as the pretrained weights expect.

        Args:
            image: (B, 3, H, W) in [0, 1].

        Returns:
            Four maps (B, C, h, w); their strides are 4, 8, 16, 32, cut off at the output stride. They have the cells
            that lie in the image, none of padding: attention and pooling over a map see the image and nothing else.
        """
        height, width = image.shape[-2:]
        margin = (0, self.sizes.fit(width) - width, 0, self.sizes.fit(height) - height)
        pixels = (image - self.mean) / self.std
        # After normalisation 0 is the mean colour, the most neutral one.
        maps = channels_first(self.features(F.pad(pixels, margin) if any(margin) else pixels), self.features)
        return [
            x[..., : lattice.cells(height), : lattice.cells(width)]
            for x, lattice in zip(maps, self.lattices, strict=True)
        ]
