"""Four strides from a backbone that has one: the reassembly of DPT."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from rc2l_bench.nets.backbone import Backbone

LEAST = 8
"""Channels of a level."""


def resize(channels: int, factor: float) -> nn.Module:
    """Build what makes a map this many times as large, a whole number or one over it; see `Lattice.scaled`."""
    if factor > 1:
        return nn.ConvTranspose2d(channels, channels, round(factor), round(factor))
    step = round(1 / factor)
    # The kernel reaches up to the neighbours that are kept: 3 for every second cell, as in DPT.
    return nn.Conv2d(channels, channels, 2 * step - 1, step, step - 1) if step > 1 else nn.Identity()


class Pyramid(nn.Module):
    """Reassembly (Ranftl et al., "Vision transformers for dense prediction", ICCV 2021, section 3.2).

    A 1x1 convolution, then a transposed or a strided convolution, for every level. Tokens for classes and registers
    have been left out by timm ("ignore" there). Widths are our choice, those of UniMatch V2 for ViT-S and ViT-B: an
    eighth, a quarter, a half and all of the channels of the deepest level.

    Attributes:
        channels: of the four levels, fine to coarse.
        lattices: where their cells lie; strides 4, 8, 16, 32, or what is nearest, 3.5, 7, 14, 28.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        factors = [at.stride / stride for at, stride in zip(backbone.lattices, backbone.strides, strict=True)]
        self.channels = [max(backbone.channels[-1] // share, LEAST) for share in (8, 4, 2, 1)]
        self.lattices = [at.scaled(factor) for at, factor in zip(backbone.lattices, factors, strict=True)]
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, outputs, 1), resize(outputs, factor))
            for inputs, outputs, factor in zip(backbone.channels, self.channels, factors, strict=True)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Make four maps on `lattices` of a backbone's; they may have cells beyond the lower and right edge."""
        return [level(x) for level, x in zip(self.levels, maps, strict=True)]
