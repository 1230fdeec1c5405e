"""DPT's decoder: from the four maps of a plain transformer to features at half the finest stride."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from rc2l_bench.nets.backbone import Backbone
from rc2l_bench.nets.lattice import resample
from rc2l_bench.nets.pyramid import Pyramid


class ResidualUnit(nn.Module):
    """x + conv(relu(conv(relu(x)))) (RefineNet, Lin et al., CVPR 2017, figure 2b)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            # Not in place: the sum needs what came in.
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Refine features (B, width, h, w)."""
        out: Tensor = x + self.layers(x)
        return out


class DPT(nn.Module):
    """Reassembly and fusion (Ranftl et al., ICCV 2021, section 3.2); no batch norm, as in UniMatch V2.

    Between maps values move by their lattices, which is right for every size of image; the original aligns corners.

    Attributes:
        lattice: where the cells of the result lie, at half the stride of the finest level: 2, with patches of 14 1.75.
    """

    def __init__(self, backbone: Backbone, width: int, dropout: float) -> None:
        """Build it.

        Args:
            backbone: gives four maps.
            width: channels of the result and of all fusion.
            dropout: of whole channels of the result.
        """
        super().__init__()
        self.pyramid = Pyramid(backbone)
        # Of the map in which a fusion ends: the next finer one, and at last one that is twice as large as the finest.
        self.ends = [self.pyramid.lattices[0].scaled(2), *self.pyramid.lattices[:-1]]
        self.narrow = nn.ModuleList(
            nn.Conv2d(channels, width, 3, padding=1, bias=False) for channels in self.pyramid.channels
        )
        # Nothing comes from below the coarsest map, so that it needs no unit of its own before the sum.
        self.side = nn.ModuleList(ResidualUnit(width) for _ in self.ends[1:])
        self.joint = nn.ModuleList(ResidualUnit(width) for _ in self.ends)
        self.project = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in self.ends)
        self.last = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Dropout2d(dropout))
        self.lattice = self.ends[0]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Fuse the maps of the backbone, shallow to deep, into (B, width, h, w) on `lattice`."""
        levels = [narrow(x) for narrow, x in zip(self.narrow, self.pyramid(maps), strict=True)]
        finest = levels[0].shape[-2:]
        sizes = [(2 * finest[0], 2 * finest[1]), *(x.shape[-2:] for x in levels[:-1])]
        x = levels.pop()
        for i in reversed(range(len(self.ends))):
            x = self.joint[i](x if i == len(levels) else x + self.side[i](levels[i]))
            # Projected first: a 1x1 convolution and interpolation commute, and there are fewer cells.
            x = resample(self.project[i](x), self.pyramid.lattices[i], self.ends[i], sizes[i])
        out: Tensor = self.last(x)
        return out
