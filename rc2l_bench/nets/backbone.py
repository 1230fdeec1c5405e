"""The timm backbone that all networks share."""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rc2l_bench.config import NetConfig
from rc2l_bench.errors import UsageError, suggest
from rc2l_bench.nets.maskformer_weights import load_maskformer
from rc2l_bench.nets.weights import WEIGHTS_VARIABLE, check_weights, find_weights, maskformer_file, weight_folders


def create_features(net: NetConfig) -> nn.Module:
    """A timm feature extractor with four outputs, nominally at strides 4, 8, 16, 32.

    Raises:
        UsageError: timm does not know the backbone, it cannot do this output stride, or its weights are missing.
    """
    if not timm.is_model(net.backbone):
        raise UsageError(
            f"net.backbone: timm has no model '{net.backbone}'; {suggest(net.backbone, timm.list_models())[:200]}"
        )
    # A checkpoint of MaskFormer is in another layout and loaded by `Backbone`.
    whole = bool(maskformer_file(net))
    file = None if whole else find_weights(net)
    overlay = {"file": str(file)} if file else None
    try:
        probe: Any = timm.create_model(net.backbone, features_only=True)
        if file:
            check_weights(file, probe, net.backbone)
        strides: list[int] = probe.feature_info.reduction()
        stages = [i for i, stride in enumerate(strides) if stride >= 4][-4:]
        features: nn.Module = timm.create_model(
            net.backbone,
            features_only=True,
            out_indices=stages,
            output_stride=net.output_stride,
            pretrained=net.weights != "none" and not whole,
            pretrained_cfg_overlay=overlay,
        )
    except (RuntimeError, TypeError, NotImplementedError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"net.backbone: {net.backbone} at output stride {net.output_stride}: {reason}") from None
    except OSError:
        folders = ", ".join(str(folder) for folder in weight_folders())
        raise UsageError(
            f"net.weights: {net.backbone}.safetensors is in none of {folders}, and it could not be downloaded: "
            f"put it there, point {WEIGHTS_VARIABLE} to its folder, or set weights to none"
        ) from None
    return features


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
        """Features of images (B, 3, H, W) in [0, 1], normalised here as the pretrained weights expect.

        Returns:
            Four maps; their strides are 4, 8, 16, 32, cut off at the output stride.
        """
        out: list[Tensor] = self.features((image - self.mean) / self.std)
        return out


def resize(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear interpolation of maps (B, C, h, w) to a height and width; corners are not aligned."""
    return x if x.shape[-2:] == tuple(size) else F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
