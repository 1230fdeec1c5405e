"""RegionNet (MaskFormer): a set of regions, each with a class and a mask, over the same backbone as PixelNet."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from torch import Tensor, nn

from rc2l_bench.config import NetConfig, RegionNetConfig
from rc2l_bench.nets.backbone import Backbone
from rc2l_bench.nets.lattice import PIXELS, Lattice, resample

TINY = 1e-6
"""Smallest semantic score that a logarithm or a division sees."""


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
        """Mask logits p_i(x) = ⟨f_i, F(x)⟩ of a decoder layer, (B, Q, h, w)."""
        return torch.einsum("bqd,bdhw->bqhw", self.embedding[:, layer], self.features)

    def rows(self, rows: slice) -> Prediction:
        """The prediction of some of the images."""
        return replace(self, logits=self.logits[rows], embedding=self.embedding[rows], features=self.features[rows])


def semantic_scores(logits: Tensor, mask: Tensor) -> Tensor:
    """S(k, x) = Σ_i softmax(c_i)_k · m_i(x), "no object" dropped after the softmax (MaskFormer's semantic inference).

    Args:
        logits: (B, Q, K + 1) class logits.
        mask: (B, Q, h, w) mask probabilities.

    Returns:
        (B, K, h, w), >= 0; it may exceed 1 where masks overlap.
    """
    return torch.einsum("bqk,bqhw->bkhw", logits.softmax(-1)[..., :-1].to(mask.dtype), mask)


def normed_conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution and group norm (at most 32 groups); keeps height and width."""
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
        """Backbone maps, fine to coarse -> F, (B, D, h, w)."""
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
        """One layer.

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


class QueryDecoder(nn.Module):
    """N learned queries that read the coarsest map; no encoder, as in MaskFormer."""

    def __init__(self, inputs: int, config: RegionNetConfig) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(config.queries, config.dim))
        self.project = nn.Conv2d(inputs, config.dim, 1)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        for parameter in self.layers.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, coarsest: Tensor) -> Tensor:
        """(B, C, h', w') -> what the queries hold after every layer, (B, S, Q, D)."""
        height, width = coarsest.shape[-2:]
        memory = self.project(coarsest).flatten(2).transpose(1, 2)
        position = build_sincos2d_pos_embed([height, width], memory.shape[-1], device=memory.device)
        key = memory + position.to(memory.dtype)
        x = torch.zeros_like(self.query).expand(len(memory), -1, -1)
        steps = []
        for layer in self.layers:
            x = layer(x, self.query, key, memory)
            steps.append(self.norm(x))
        return torch.stack(steps, 1)


class RegionNet(nn.Module):
    """MaskFormer (Cheng et al., NeurIPS 2021): regions with a class distribution each."""

    def __init__(self, net: NetConfig, num_classes: int) -> None:
        super().__init__()
        dim = net.region.dim
        self.backbone = Backbone(net)
        self.pixels = PixelDecoder(self.backbone.channels, dim)
        self.queries = QueryDecoder(self.backbone.channels[-1], net.region)
        self.classify = nn.Linear(dim, num_classes + 1)
        self.embed = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def segment(self, image: Tensor) -> Prediction:
        """Images (B, 3, H, W) in [0, 1] -> regions; h, w = H/4, W/4."""
        maps = self.backbone(image)
        queries = self.queries(maps[-1])
        return Prediction(
            logits=self.classify(queries),
            embedding=self.embed(queries),
            features=self.pixels(maps),
            lattice=self.backbone.lattices[0],
        )

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> class logits (B, K, H, W).

        They are the logarithm of the semantic scores, so that a softmax over K divides the scores by their sum. Mask
        logits are interpolated before the sigmoid, as in MaskFormer.
        """
        seen = self.segment(image)
        mask = resample(seen.mask().float(), seen.lattice, PIXELS, image.shape[-2:]).sigmoid()
        return semantic_scores(seen.logits[:, -1].float(), mask).clamp(min=TINY).log()
