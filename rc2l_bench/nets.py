"""PixelNet (DeepLabv3+) and the timm backbone that all networks share."""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rc2l_bench.config import NetConfig, PixelNetConfig
from rc2l_bench.errors import UsageError, suggest
from rc2l_bench.weights import WEIGHTS_VARIABLE, check_weights, find_weights, weight_folders


def create_features(net: NetConfig) -> nn.Module:
    """A timm feature extractor with four outputs, nominally at strides 4, 8, 16, 32.

    Raises:
        UsageError: timm does not know the backbone, it cannot do this output stride, or its weights are missing.
    """
    if not timm.is_model(net.backbone):
        raise UsageError(
            f"net.backbone: timm has no model '{net.backbone}'; {suggest(net.backbone, timm.list_models())[:200]}"
        )
    file = find_weights(net)
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
            pretrained=net.weights != "none",
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

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of images (B, 3, H, W) in [0, 1], normalised here as the pretrained weights expect.

        Returns:
            Four maps; their strides are 4, 8, 16, 32, cut off at the output stride.
        """
        out: list[Tensor] = self.features((image - self.mean) / self.std)
        return out


def conv(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; keeps height and width."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def resize(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear interpolation of maps (B, C, h, w) to a height and width; corners are not aligned."""
    return x if x.shape[-2:] == tuple(size) else F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (DeepLabv3).

    The image-pooling branch has no batch norm, so that a batch of one image can be trained (our choice).
    """

    def __init__(self, inputs: int, config: PixelNetConfig) -> None:
        super().__init__()
        width = config.width
        self.branches = nn.ModuleList(
            [conv(inputs, width, 1)] + [conv(inputs, width, 3, rate) for rate in config.rates]
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, width, 1), nn.ReLU(inplace=True))
        self.project = nn.Sequential(conv(width * 5, width, 1), nn.Dropout2d(config.dropout))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, width, h, w)."""
        maps = [branch(x) for branch in self.branches]
        maps.append(self.pool(x).expand_as(maps[0]))
        out: Tensor = self.project(torch.cat(maps, 1))
        return out


class PixelNet(nn.Module):
    """DeepLabv3+ (Chen et al., ECCV 2018): one class distribution per pixel.

    Attributes:
        width: channels of what `decode` returns.
    """

    def __init__(self, net: NetConfig, num_classes: int) -> None:
        super().__init__()
        pixel = net.pixel
        self.width = pixel.width
        self.backbone = Backbone(net)
        self.aspp = ASPP(self.backbone.channels[-1], pixel)
        self.low = conv(self.backbone.channels[0], pixel.low_width, 1)
        self.fuse = nn.Sequential(
            conv(pixel.width + pixel.low_width, pixel.width, 3), conv(pixel.width, pixel.width, 3)
        )
        self.classifier = nn.Conv2d(pixel.width, num_classes, 1)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Backbone features of images (B, 3, H, W): at stride 4, and at the output stride."""
        maps = self.backbone(image)
        return maps[0], maps[-1]

    def decode(self, low: Tensor, high: Tensor) -> Tensor:
        """Features before the classifier, (B, width, H/4, W/4)."""
        high = resize(self.aspp(high), low.shape[-2:])
        out: Tensor = self.fuse(torch.cat([high, self.low(low)], 1))
        return out

    def classify(self, features: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
        """Class logits (B, K, H, W) of features (B, width, h, w), interpolated to a size."""
        return resize(self.classifier(features), size)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> class logits (B, K, H, W)."""
        return self.classify(self.decode(*self.encode(image)), image.shape[-2:])
