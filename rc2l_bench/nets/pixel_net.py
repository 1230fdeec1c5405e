"""PixelNet: DeepLabv3+ over the shared backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rc2l_bench.config import NetConfig, PixelNetConfig
from rc2l_bench.nets.backbone import Backbone
from rc2l_bench.nets.lattice import PIXELS, resample


def conv(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; keeps height and width."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


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
        lattice: where the cells of what `decode` returns lie.
    """

    def __init__(self, net: NetConfig, num_classes: int) -> None:
        super().__init__()
        pixel = net.pixel
        self.width = pixel.width
        self.backbone = Backbone(net)
        self.lattice = self.backbone.lattices[0]
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
        """Merge the two maps of `encode` to the features before the classifier, (B, width, h, w) on `lattice`."""
        high = resample(self.aspp(high), self.backbone.lattices[-1], self.lattice, low.shape[-2:])
        out: Tensor = self.fuse(torch.cat([high, self.low(low)], 1))
        return out

    def classify(self, features: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
        """Give the class logits of features (B, width, h, w) at the pixels of an image of a size, (B, K, H, W)."""
        return resample(self.classifier(features), self.lattice, PIXELS, size)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> class logits (B, K, H, W)."""
        return self.classify(self.decode(*self.encode(image)), image.shape[-2:])
