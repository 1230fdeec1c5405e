"""RegionNet (MaskFormer): a set of regions, each with a class and a mask, over the same backbone as PixelNet."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rc2l_bench.config import NetConfig, RegionNetConfig
from rc2l_bench.nets.backbone import Backbone, cut_off
from rc2l_bench.nets.lattice import PIXELS, Lattice, resample
from rc2l_bench.nets.maskformer_weights import load_maskformer
from rc2l_bench.nets.pyramid import Pyramid
from rc2l_bench.nets.weights import find_weights, maskformer_file

TINY = 1e-6
"""Smallest semantic score that a logarithm or a division sees."""
TEMPERATURE = 10_000.0
"""Of the frequencies of position encodings: the slowest turns this many times slower than the fastest (MaskFormer)."""
LARGE = 2**21
"""Elements of a layer's attention maps beyond which they are not kept for the backward pass."""
EPSILON = 1e-6
"""Added to the number of rows that positions are divided by (MaskFormer)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a RegionNet sees in a batch; S decoder layers, the last one is the answer.

    Attributes:
        logits: (B, S, Q, K + 1) class logits; the last class is "no object".
        embedding: (B, S, Q, D) mask embeddings f.
        features: (B, D, h, w) the pixel decoder's map F.
        lattice: where the cells of F, and so of the masks, lie.
    """

    logits: Tensor
    embedding: Tensor
    features: Tensor
    lattice: Lattice

    def mask(self, layer: int = -1) -> Tensor:
        """Compute mask logits p_i(x) = ⟨f_i, F(x)⟩ of a decoder layer, (B, Q, h, w)."""
        return torch.einsum("bqd,bdhw->bqhw", self.embedding[:, layer], self.features)

    def rows(self, rows: slice) -> Prediction:
        """Take the prediction of some of the images."""
        return replace(self, logits=self.logits[rows], embedding=self.embedding[rows], features=self.features[rows])


def semantic_scores(logits: Tensor, mask: Tensor) -> Tensor:
    """Sum up MaskFormer's semantic scores S(k, x) = Σ_i softmax(c_i)_k · m_i(x), "no object" dropped after the softmax.

    Args:
        logits: (B, Q, K + 1) class logits.
        mask: (B, Q, h, w) mask probabilities.

    Returns:
        (B, K, h, w), >= 0; it may exceed 1 where masks overlap.
    """
    return torch.einsum("bqk,bqhw->bkhw", logits.softmax(-1)[..., :-1].to(mask.dtype), mask)


def normed_conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Build a convolution and a group norm (at most 32 groups) that keep height and width."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(math.gcd(32, outputs), outputs))


class PixelDecoder(nn.Module):
    """Feature pyramid: from the coarsest map up to stride 4, nearest upsampling, as in MaskFormer."""

    def __init__(self, channels: list[int], dim: int) -> None:
        super().__init__()
        finer = channels[-2::-1]
        self.top = nn.Sequential(normed_conv(channels[-1], dim, 3), nn.ReLU())
        self.lateral = nn.ModuleList(normed_conv(inputs, dim, 1) for inputs in finer)
        self.smooth = nn.ModuleList(nn.Sequential(normed_conv(dim, dim, 3), nn.ReLU()) for _ in finer)
        self.project = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Make F, (B, D, h, w), of the backbone's maps, fine to coarse."""
        x = self.top(maps[-1])
        for finer, lateral, smooth in zip(maps[-2::-1], self.lateral, self.smooth, strict=True):
            x = smooth(lateral(finer) + F.interpolate(x, finer.shape[-2:], mode="nearest"))
        out: Tensor = self.project(x)
        return out


class DecoderLayer(nn.Module):
    """Self-attention, attention to the image, two linear layers; all residual, normalised after (DETR)."""

    def __init__(self, config: RegionNetConfig) -> None:
        super().__init__()
        dim = config.dim
        self.among = nn.MultiheadAttention(dim, config.heads, config.dropout, batch_first=True)
        self.across = nn.MultiheadAttention(dim, config.heads, config.dropout, batch_first=True)
        self.feedforward = nn.Sequential(
            nn.Linear(dim, config.feedforward),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.feedforward, dim),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, query: Tensor, key: Tensor, memory: Tensor) -> Tensor:
        """Carry out one layer.

        Args:
            x: (B, Q, D) what the queries have gathered.
            query: (Q, D) what tells one query from another.
            key: (B, n, D) the image with positions.
            memory: (B, n, D) the image.

        Returns:
            (B, Q, D).
        """
        at = x + query
        x = self.norms[0](x + self.dropout(self.among(at, at, x, need_weights=False)[0]))
        x = self.norms[1](x + self.dropout(self.across(x + query, key, memory, need_weights=False)[0]))
        out: Tensor = self.norms[2](x + self.dropout(self.feedforward(x)))
        return out


def encode_position(height: int, width: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Encode where a cell of a map lies, as MaskFormer does: sines and cosines of its share of the height and width.

    Rows are numbered from 1 and divided by their number, so that the last row is 2π in a map of any size; then come
    dim/4 pairs (sin, cos) of it at falling frequencies, and as many of the columns.

    Args:
        height: h', rows of the map.
        width: w', its columns.
        dim: a multiple of 4.
        device: of the result.

    Returns:
        (h'·w', dim) float32.
    """
    half = dim // 2
    frequency = TEMPERATURE ** -(2 * torch.arange(half // 2, device=device) / half)

    def along(size: int) -> Tensor:
        place = torch.arange(1, size + 1, device=device) / (size + EPSILON) * 2 * math.pi
        angle = place[:, None] * frequency
        return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)  # (size, dim/2)

    rows = along(height)[:, None].expand(-1, width, -1)
    columns = along(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1)


class QueryDecoder(nn.Module):
    """N learned queries that read the coarsest map; no encoder, as in MaskFormer."""

    def __init__(self, inputs: int, config: RegionNetConfig) -> None:
        super().__init__()
        self.maps = config.heads * config.queries
        self.query = nn.Parameter(torch.randn(config.queries, config.dim))
        self.project = nn.Conv2d(inputs, config.dim, 1)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        for parameter in self.layers.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, coarsest: Tensor) -> Tensor:
        """Read the coarsest map (B, C, h', w'); give what the queries hold after every layer, (B, S, Q, D)."""
        height, width = coarsest.shape[-2:]
        memory = self.project(coarsest).flatten(2).transpose(1, 2)
        position = encode_position(height, width, memory.shape[-1], memory.device)
        key = memory + position.to(memory.dtype)
        # `shape[0]`, not `len`, which would make the batch size a constant of an exported network.
        x = torch.zeros_like(self.query).expand(memory.shape[0], -1, -1)
        # What a layer keeps for the backward pass, attention maps above all, weighs as much as a tenth of a large
        # backbone and is cheap to compute again: the same numbers, dropout included.
        again = torch.is_grad_enabled() and x.shape[0] * self.maps * memory.shape[1] > LARGE
        steps = []
        for layer in self.layers:
            given = (x, self.query, key, memory)
            x = checkpoint(layer, *given, use_reentrant=False) if again else layer(*given)
            steps.append(self.norm(x))
        return torch.stack(steps, 1)


class RegionNet(nn.Module):
    """MaskFormer (Cheng et al., NeurIPS 2021): regions with a class distribution each."""

    def __init__(self, net: NetConfig, num_classes: int) -> None:
        super().__init__()
        dim = net.region.dim
        self.backbone = Backbone(net)
        self.pyramid = None if self.backbone.hierarchical else Pyramid(self.backbone)
        channels = (self.pyramid or self.backbone).channels
        self.pixels = PixelDecoder(channels, dim)
        self.queries = QueryDecoder(channels[-1], net.region)
        self.classify = nn.Linear(dim, num_classes + 1)
        self.embed = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        if maskformer_file(net) and (file := find_weights(net)):
            load_maskformer(self, file)

    def segment(self, image: Tensor) -> Prediction:
        """Predict regions of images (B, 3, H, W) in [0, 1]; h, w = H/4, W/4, with patches of 14 pixels H/3.5, W/3.5."""
        maps, lattices = self.backbone(image), self.backbone.lattices
        if self.pyramid:
            lattices = self.pyramid.lattices
            maps = cut_off(self.pyramid(maps), lattices, image.shape[-2:])
        queries = self.queries(maps[-1])
        return Prediction(
            logits=self.classify(queries),
            embedding=self.embed(queries),
            features=self.pixels(maps),
            lattice=lattices[0],
        )

    def forward(self, image: Tensor) -> Tensor:
        """Compute class logits (B, K, H, W) of images (B, 3, H, W) in [0, 1].

        They are the logarithm of the semantic scores, so that a softmax over K divides the scores by their sum. Mask
        logits are interpolated before the sigmoid, as in MaskFormer.
        """
        seen = self.segment(image)
        mask = resample(seen.mask().float(), seen.lattice, PIXELS, image.shape[-2:]).sigmoid()
        return semantic_scores(seen.logits[:, -1].float(), mask).clamp(min=TINY).log()
