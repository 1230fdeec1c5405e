"""The timm backbone that all networks share."""

from __future__ import annotations

import math
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import group_parameters
from torch import Tensor, nn

from rc2l_bench.config import NetConfig
from rc2l_bench.errors import RefusedError, UsageError, refusals
from rc2l_bench.nets.features import channels_first, create_features, timm_name
from rc2l_bench.nets.lattice import Lattice, SizeRule, find_lattices
from rc2l_bench.nets.maskformer_weights import load_maskformer
from rc2l_bench.nets.weights import find_weights, maskformer_file


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
    # Patches drop the pixels that do not fill one, also where layers that pad by size stand before them.
    if lattices[-1].offset > 0:
        return SizeRule(coarsest, 0)
    # Convolutions that pad alike take any size.
    return SizeRule(coarsest, 1) if by_size else SizeRule(1, 0)


class Backbone(nn.Module):
    """A timm backbone that takes images in [0, 1] of any size.

    Attributes:
        channels: channels of the four outputs.
        lattices: where the cells of the four outputs lie.
        strides: that the four outputs are meant for: 4, 8, 16, 32, or the like of other patches, see `target_strides`.
        hierarchical: whether the outputs have these strides, cut off at the output stride; those of a plain transformer
            have one stride, and networks put a `Pyramid` behind it.
        sizes: the heights and widths that it takes; others are padded here, and the padding's cells cut off again.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: NetConfig) -> None:
        super().__init__()
        self.name = net.backbone
        self.features, self.order, self.strides = create_features(net)
        info: Any = self.features.feature_info
        self.channels: list[int] = [info.channels()[i] for i in self.order]
        for name in ("mean", "std"):
            value = torch.tensor(timm.models.get_pretrained_cfg_value(net.backbone, name) or (0.5, 0.5, 0.5))
            self.register_buffer(name, value.view(1, 3, 1, 1), persistent=False)
        if maskformer_file(net) and (file := find_weights(net)):
            load_maskformer(self, file, "backbone.")
        try:
            lattices, self.sizes = read_geometry(self.features.eval())
        except ValueError as error:
            raise UsageError(f"net.backbone: {net.backbone}: {error}: take one whose maps have regular cells") from None
        self.features.train()
        self.lattices = [lattices[i] for i in self.order]
        cut = [min(stride, net.output_stride) for stride in self.strides]
        self.hierarchical = [lattice.stride for lattice in self.lattices] == cut

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the features of images, normalised here as the pretrained weights expect.

        Args:
            image: (B, 3, H, W) in [0, 1].

        Returns:
            Four maps (B, C, h, w) on `lattices`. They have the cells that lie in the image, none of padding: attention
            and pooling over a map see the image and nothing else.
        """
        height, width = image.shape[-2:]
        margin = (0, self.sizes.fit(width) - width, 0, self.sizes.fit(height) - height)
        pixels = (image - self.mean) / self.std
        # After normalisation 0 is the mean colour, the most neutral one.
        maps = channels_first(self.features(F.pad(pixels, margin) if any(margin) else pixels), self.features)
        return cut_off([maps[i] for i in self.order], self.lattices, image.shape[-2:])

    def depths(self) -> dict[nn.Parameter, int]:
        """Tell how many layers lie above every parameter, counted as timm groups them; 0 = the deepest layer.

        Raises:
            UsageError: timm does not say which layers the model has.
        """
        fault = f"optimiser.layer_decay: timm does not say which layers {self.name} has: write 1.0"
        with torch.device("meta"):  # the model itself, without values and without drawing any
            whole: Any = timm.create_model(self.name)
        if not hasattr(whole, "group_matcher"):
            raise UsageError(fault)
        try:
            with refusals():
                layers = group_parameters(whole, whole.group_matcher(coarse=False), reverse=True)
        except RefusedError:
            raise UsageError(fault) from None
        known = {name.replace(".", "_"): layer for name, layer in layers.items()}
        names = {p: timm_name(name).replace(".", "_") for name, p in self.features.named_parameters()}
        if not known.keys() >= set(names.values()):
            raise UsageError(fault)
        own = {parameter: known[name] for parameter, name in names.items()}
        deepest = max(own.values())
        return {parameter: deepest - layer for parameter, layer in own.items()}


def cut_off(maps: list[Tensor], lattices: list[Lattice], size: tuple[int, int] | torch.Size) -> list[Tensor]:
    """Keep the cells of maps (B, C, h, w) that lie in an image of a height and width."""
    height, width = size
    return [x[..., : at.cells(height), : at.cells(width)] for x, at in zip(maps, lattices, strict=True)]
