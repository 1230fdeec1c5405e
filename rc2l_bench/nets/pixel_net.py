"""PixelNet: DeepLabv3+ over the shared backbone, or DPT where that has one stride only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rc2l_bench.config import NetConfig, PixelNetConfig
from rc2l_bench.nets.backbone import Backbone
from rc2l_bench.nets.dpt import DPT
from rc2l_bench.nets.lattice import PIXELS, resample


def conv(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Build a convolution with batch norm and ReLU that keeps height and width.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        kernel: odd height and width of the kernel, pixels.
        dilation: distance of the kernel's taps, pixels.
    """
    # No bias: the batch norm behind it subtracts the mean, and with it any bias.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., "Rethinking atrous convolution", 2017, section 3.3).

    Five branches: one 1x1 convolution, three dilated ones, and the mean over the image. The last has no batch norm (our
    choice): batch norm refuses a single value per channel, which is what it would see of a batch of one image.
    """

    def __init__(self, inputs: int, config: PixelNetConfig) -> None:
        super().__init__()
        width = config.width
        self.branches = nn.ModuleList(
            [conv(inputs, width, 1)] + [conv(inputs, width, 3, rate) for rate in config.rates]
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, width, 1), nn.ReLU(inplace=True))
        # Whole channels are dropped: neighbouring pixels are so alike that single ones would be filled in from beside.
        self.project = nn.Sequential(conv(width * 5, width, 1), nn.Dropout2d(config.dropout))

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, C, h, w) to (B, width, h, w)."""
        maps = [branch(x) for branch in self.branches]
        # Expanded, not interpolated: bilinear interpolation of one pixel gives the same constant map.
        maps.append(self.pool(x).expand_as(maps[0]))
        out: Tensor = self.project(torch.cat(maps, 1))
        return out


class PixelNet(nn.Module):
    """One class distribution per pixel: DeepLabv3+ (Chen et al., ECCV 2018); on plain transformers DPT, see `DPT`.

    The pass is open in three parts, because methods put something between them: UniMatch perturbs what `encode` gives,
    U2PL reads the features that `decode` gives.

    Attributes:
        width: channels of what `decode` returns.
        lattice: where the cells of what `decode` returns lie.
    """

    def __init__(self, net: NetConfig, num_classes: int) -> None:
        super().__init__()
        pixel = net.pixel
        self.width = pixel.width
        self.backbone = Backbone(net)
        self.dpt = None if self.backbone.hierarchical else DPT(self.backbone, pixel.width, pixel.dropout)
        self.lattice = self.dpt.lattice if self.dpt else self.backbone.lattices[0]
        if not self.dpt:
            self.aspp = ASPP(self.backbone.channels[-1], pixel)
            self.low = conv(self.backbone.channels[0], pixel.low_width, 1)
            self.fuse = nn.Sequential(
                conv(pixel.width + pixel.low_width, pixel.width, 3), conv(pixel.width, pixel.width, 3)
            )
        self.classifier = nn.Conv2d(pixel.width, num_classes, 1)

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the backbone's features of images.

        Args:
            image: (B, 3, H, W) float, [0, 1].

        Returns:
            Features at stride 4, and at the output stride; of a plain transformer those of four blocks, shallow to
            deep, (B, C, h, w) each.
        """
        maps = self.backbone(image)
        return tuple(maps) if self.dpt else (maps[0], maps[-1])

    def decode(self, *maps: Tensor) -> Tensor:
        """Fuse the maps of `encode` into the features before the classifier, (B, width, h, w) on `lattice`."""
        if self.dpt:
            fused: Tensor = self.dpt(maps)
            return fused
        low, high = maps
        high = resample(self.aspp(high), self.backbone.lattices[-1], self.lattice, low.shape[-2:])
        out: Tensor = self.fuse(torch.cat([high, self.low(low)], 1))
        return out

    def classify(self, features: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
        """Classify features.

        Args:
            features: (B, width, h, w).
            size: height and width of the result.

        Returns:
            (B, K, H, W) class logits.
        """
        # The K logits are interpolated, not the features: 1x1 convolution and interpolation commute, and there are many
        # more features than classes.
        return resample(self.classifier(features), self.lattice, PIXELS, size)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [0, 1] to class logits (B, K, H, W)."""
        return self.classify(self.decode(*self.encode(image)), image.shape[-2:])
