"""Feature extractors of timm: the levels that are taken, and one line where there are none that fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from rc2l_bench.config import NetConfig
from rc2l_bench.errors import RefusedError, UsageError, refusals, suggest
from rc2l_bench.nets.weights import check_weights, find_weights, maskformer_file, out_of_reach, require_reach

STRIDES = (4, 8, 16, 32)
"""Of the levels that networks want, cut off at the output stride."""
_TRIED = (16, 24)
"""Height and width of the image on which a new extractor is tried, in cells of the finest level: 64×96 at stride 4."""


class Extractor(NamedTuple):
    """A timm feature extractor that serves four levels.

    Attributes:
        features: images -> maps.
        order: for each level, fine to coarse, which of the maps serves it: 0, 1, 2, 3, unless there are fewer.
        strides: that the levels are meant for, before they are cut off at the output stride; see `target_strides`.
    """

    features: nn.Module
    order: list[int]
    strides: list[float]


def create_features(net: NetConfig) -> Extractor:
    """Create a timm feature extractor for four levels, nominally at strides 4, 8, 16, 32.

    Raises:
        UsageError: timm does not know the backbone, it has no features, cannot do this output stride, takes images of
            one size only, or its weights are missing.
    """
    if not timm.is_model(net.backbone):
        raise UsageError(
            f"net.backbone: timm has no model '{net.backbone}'; {suggest(net.backbone, timm.list_models())[:200]}"
        )
    # A checkpoint of MaskFormer is in another layout and loaded by `Backbone`.
    file = None if maskformer_file(net) else find_weights(net)
    try:
        with refusals():
            probe: Any = timm.create_model(net.backbone, features_only=True)
    except RefusedError as error:
        raise UsageError(f"net.backbone: {net.backbone} gives no features: {error}") from None
    if file:
        check_weights(file, {timm_name(name): x for name, x in probe.state_dict().items()}, net.backbone)
    elif net.weights == "imagenet":
        known = timm.models.get_pretrained_cfg(net.backbone)
        require_reach(net.backbone, known.hf_hub_id if known else None)
    reductions = [level["reduction"] for level in probe.feature_info.info]
    levels, strides = choose_levels(reductions), target_strides(reductions)
    wanted: dict[str, Any] = {"out_indices": sorted(set(levels))}
    # Many families know no `output_stride`, which they need not where they have it anyway.
    if net.output_stride != STRIDES[-1]:
        if not is_hierarchical(reductions):
            raise _one_stride(net, "its maps are of other strides")
        wanted["output_stride"] = net.output_stride
    size = round(_TRIED[0] * strides[0]), round(_TRIED[1] * strides[0])
    features = _find_way(net, file, [wanted | way for way in _ways(probe, reductions)], size)
    return Extractor(features, [wanted["out_indices"].index(level) for level in levels], strides)


def timm_name(name: str) -> str:
    """Give the name that a tensor of an extractor has in the model itself, but for dots that became underscores."""
    return name.removeprefix("model.").removeprefix("body.")


def is_hierarchical(reductions: Sequence[int]) -> bool:
    """Tell whether a model has a level of every stride that networks want."""
    return set(STRIDES) <= set(reductions)


def target_strides(reductions: Sequence[int]) -> list[float]:
    """Strides that four levels are to have: 4, 8, 16, 32, or what is nearest to them for the patches of a model.

    Args:
        reductions: stride of every level that the model has.

    Returns:
        Multiples and parts of the finest one by powers of two: 3.5, 7, 14, 28 for patches of 14 pixels.
    """
    finest = STRIDES[0] if is_hierarchical(reductions) else min(reductions)
    unit = finest / 2 ** round(math.log2(finest / STRIDES[0]))
    return [unit * stride / STRIDES[0] for stride in STRIDES]


def choose_levels(reductions: Sequence[int]) -> list[int]:
    """Choose the level that serves each of the four strides, by its index in timm's own list.

    It is the deepest one of that stride; where there is none, of the next finer stride, or else of the finest. Where
    one stride serves several, they share its levels evenly: blocks 3, 6, 9 and 12 of a plain transformer with twelve.

    Args:
        reductions: stride of every level that the model has, in timm's order; several may have one stride.
    """
    serving = [
        max((have for have in reductions if have <= stride), default=min(reductions))
        for stride in target_strides(reductions)
    ]
    chosen = []
    for place, stride in enumerate(serving):
        levels = [index for index, have in enumerate(reductions) if have == stride]
        share = (serving[: place + 1].count(stride)) / serving.count(stride)
        chosen.append(levels[math.ceil(len(levels) * share) - 1])
    return chosen


def _ways(probe: nn.Module, reductions: Sequence[int]) -> Iterator[dict[str, Any]]:
    """How timm may be asked for an extractor, the best way first; families know different options."""
    if len(set(reductions)) > 1:
        yield {}
        # Families with windows of attention are tied to the size of their pretraining, unless they are told not to be.
        yield {"strict_img_size": False}
        yield {"dynamic_img_size": True}
        return
    # The blocks of a plain transformer add up and only its last norm gives them a common scale (our choice, as in
    # DINOv2). Position embeddings follow the size of the image.
    normed = {"feature_cls": partial(type(probe), norm=True)} if getattr(probe, "norm", None) is False else {}
    yield {"dynamic_img_size": True, **normed}
    yield normed
    yield {}


def _find_way(net: NetConfig, file: Path | None, ways: Sequence[dict[str, Any]], size: tuple[int, int]) -> nn.Module:
    """Create an extractor in the first way that gives the maps that are wanted.

    Raises:
        UsageError: none does; tells the first thing that was wrong with an extractor, or why there is none.
    """
    reasons, faults = [], []
    for way in ways:
        try:
            with refusals():
                features = _create(net, file, way)
        except RefusedError as error:
            reasons.append(str(error))
            continue
        fault = _find_fault(features, net, size)
        if fault is None:
            return features
        faults.append(fault)
    if not faults and "output_stride" in ways[0]:
        raise _one_stride(net, reasons[0])
    raise UsageError(f"net.backbone: {net.backbone}: {[*faults, *reasons][0]}")


def _create(net: NetConfig, file: Path | None, options: dict[str, Any]) -> nn.Module:
    try:
        features: nn.Module = timm.create_model(
            net.backbone,
            features_only=True,
            pretrained=net.weights != "none" and not maskformer_file(net),
            pretrained_cfg_overlay={"file": str(file)} if file else None,
            **options,
        )
    except OSError:
        raise UsageError(out_of_reach(net.backbone)) from None
    return features


def _one_stride(net: NetConfig, reason: str) -> UsageError:
    return UsageError(
        f"net.output_stride: {net.backbone} cannot have {net.output_stride}, only its own, {STRIDES[-1]}: "
        f"write that, or choose a backbone that can be dilated ({reason})"
    )


def _find_fault(features: nn.Module, net: NetConfig, size: tuple[int, int]) -> str | None:
    """What is wrong with the maps that an extractor gives of a small image; None = they are as wanted."""
    mode = features.training
    try:
        with refusals(), torch.no_grad():
            maps = channels_first(features.eval()(torch.zeros(1, 3, *size)), features)
    except RefusedError as error:
        return f"cannot see an image of {size[0]}×{size[1]}: {error}"
    finally:
        features.train(mode)
    info: Any = features.feature_info
    for stride, channels, found in zip(info.reduction(), info.channels(), maps, strict=True):
        step = min(stride, net.output_stride)
        expected = (channels, -(-size[0] // step), -(-size[1] // step))
        if found.shape[1:] != expected:
            shapes = "×".join(map(str, found.shape[1:])), "×".join(map(str, expected))
            return f"its map at stride {step} is {shapes[0]} for an image of {size[0]}×{size[1]}, not {shapes[1]}"
    return None


def channels_first(maps: list[Tensor], features: nn.Module) -> list[Tensor]:
    """Turn maps of an extractor into (B, C, h, w); some families give (B, h, w, C) and say so."""
    if getattr(features, "output_fmt", "NCHW") == "NHWC":
        return [x.permute(0, 3, 1, 2).contiguous() for x in maps]
    return maps
