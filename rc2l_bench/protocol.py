"""Everything that must be equal for two numbers to be comparable: a part of params.yaml, by data set."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rc2l_bench.bounds import (
    Blurs,
    Channels,
    Decay,
    Dilation,
    Dropout,
    Images,
    Layers,
    Magnification,
    Magnifications,
    NonNegative,
    Pairs,
    Positive,
    Share,
    Size,
    Steps,
    Strength,
    Text,
)
from rc2l_bench.metrics import Absent
from rc2l_bench.schema import Model

MOST_BATCH = 1 << 30
"""Pixels of a batch; as float32 one view of it has 12 GiB."""
MOST_SCALES = 16
"""Scales of an evaluation: scores of all of them are held at a time. Published codes use six."""


class PixelNetConfig(Model):
    """DeepLabv3+ on the backbone."""

    width: Channels
    """Channels of ASPP and decoder (256 in the published recipes)."""
    low_width: Channels
    """Channels kept of the stride-4 features (48 in CPS and UniMatch, 256 in U2PL)."""
    rates: tuple[Dilation, Dilation, Dilation]
    """Dilations of the three atrous branches."""
    dropout: Dropout


class RegionNetConfig(Model):
    """MaskFormer on the backbone."""

    queries: Channels
    dim: Annotated[Channels, Field(multiple_of=4)]
    """D: channels of pixel decoder, queries and mask embedding (256 at paper scale); positions take a multiple of 4."""
    layers: Layers
    heads: Channels
    feedforward: Annotated[int, Field(ge=1, le=65536)]
    dropout: Dropout

    @model_validator(mode="after")
    def _heads_share(self) -> RegionNetConfig:
        if self.dim % self.heads:
            raise ValueError(f"dim: {self.dim} channels cannot be shared by {self.heads} heads: make it a multiple")
        return self


class NetConfig(Model):
    """The network, equal for every method."""

    backbone: Text
    """Name of a timm model that supports features_only."""
    weights: Text
    """`none`, `imagenet` (a local safetensors file, else timm's own download), the path of a safetensors file, or
    `maskformer:<file>`, a checkpoint in transformers' layout: for a RegionNet as a whole, else for the backbone."""
    output_stride: Literal[8, 16, 32]
    pixel: PixelNetConfig
    region: RegionNetConfig


class BatchConfig(Model):
    """Images per step, over all processes."""

    labelled: Images
    unlabelled: Pairs
    """Even, because CutMix partners come in pairs."""


class WeakConfig(Model):
    """The geometry, one affine warp; labels and all views of an image share it."""

    scale: Magnifications
    """Smallest and largest magnification of the image; drawn log-uniformly."""
    flip: Share
    """Probability of a horizontal flip."""


class StrongConfig(Model):
    """Colours of the strong views; equal for every method."""

    brightness: Strength
    contrast: Strength
    saturation: Strength
    hue: Annotated[float, Field(ge=0, le=0.5)]
    jitter: Share
    """Probability that an image's brightness, contrast, saturation and hue are changed."""
    grey: Share
    """Probability of a grey image."""
    blur: Share
    """Probability of a Gaussian blur."""
    sigma: Blurs
    """Range of the blur's standard deviation in pixels."""


class OptimiserConfig(Model):
    """Poly schedule: lr · (1 − step/steps)^power, applied before every step."""

    name: Literal["sgd", "adamw"]
    lr: Positive
    weight_decay: NonNegative
    momentum: Decay
    """Of SGD; AdamW uses betas (momentum, 0.999)."""
    power: Strength
    clip: NonNegative
    """Largest norm of the gradient over all parameters; 0 = not clipped."""
    head_lr: Positive
    """Learning rate of everything outside the backbone, as a multiple of lr."""
    layer_decay: Annotated[float, Field(ge=0.1, le=1)] = 1.0
    """Each layer of the backbone learns at this multiple of the rate of the one above it, the deepest at lr; 1 = all
    alike. 0.65 to 0.9 are usual for transformers."""

    @model_validator(mode="after")
    def _weights_last(self) -> OptimiserConfig:
        decay = self.lr * max(1.0, self.head_lr) * self.weight_decay
        if decay >= 1:
            raise ValueError(f"lr · head_lr · weight_decay is {decay:g}: from 1 on a step wipes the weights out")
        return self


class Whole(Model):
    """The whole image at once, at its own size."""

    mode: Literal["whole"]


class Sliding(Model):
    """Overlapping windows, the last ones moved inside the image; a smaller image is a window of its own size."""

    mode: Literal["sliding"]
    window: tuple[Size, Size]
    """Height and width, network pixels."""
    stride: Annotated[float, Field(ge=0.05, le=1)]
    """Step between windows, as a share of the window (2/3 in the published codes), rounded up. At 0.05 every pixel is
    predicted 400 times."""
    combine: Literal["softmax", "logits", "sum"]
    """Where windows overlap: mean of probabilities, mean of logits, or sum of logits (CPS)."""


class CenterCrop(Model):
    """Only the middle of the image is scored; here to reproduce figures that were made so."""

    mode: Literal["center_crop"]
    window: tuple[Size, Size]
    """Height and width, network pixels."""


class EvalConfig(Model):
    """Evaluation protocol; it is stored with every result."""

    protocol: Annotated[Whole | Sliding | CenterCrop, Field(discriminator="mode")]
    scales: Annotated[list[Magnification], Field(min_length=1, max_length=MOST_SCALES)]
    """The image is scored at each of these scales and the probabilities are averaged; [1.0] = single scale."""
    flip: bool
    """Average with the mirrored image."""
    absent: Absent
    """What a class counts for that has no pixel in the part that is scored, see `metrics.class_iou`."""
    evaluations: Annotated[int, Field(ge=1, le=10_000)]
    """How often the validation part is scored during training, the last time at the end."""
    batch: Images
    """Images at a time; 1 where images differ in size."""


class Protocol(Model):
    """Everything that must be equal for two numbers to be comparable.

    A field that is younger than the first results has a default that changes nothing, and `stated` leaves it out there:
    so results and tuning of before stay what they are.
    """

    net: NetConfig
    batch: BatchConfig
    crop: tuple[Size, Size]
    """Height and width of a training crop, network pixels."""
    image_scale: Annotated[float, Field(ge=1 / 64, le=4)]
    """Network pixels per image pixel, in training (times weak.scale) and in evaluation. Scores are
    interpolated back, so that the metric always counts the mask's own pixels."""
    weak: WeakConfig
    strong: StrongConfig
    steps: Steps
    optimiser: OptimiserConfig
    supervised_loss: Literal["ce", "ohem"]
    eval: EvalConfig

    @model_validator(mode="after")
    def _blur_fits(self) -> Protocol:
        if 2 * self.strong.sigma[1] > min(self.crop) - 2:
            raise ValueError(f"strong.sigma: {self.strong.sigma[1]} is too much blur for a crop of {list(self.crop)}")
        return self

    @model_validator(mode="after")
    def _batch_fits(self) -> Protocol:
        images = self.batch.labelled + self.batch.unlabelled
        if images * self.crop[0] * self.crop[1] > MOST_BATCH:
            raise ValueError(
                f"a batch of {images} crops of {list(self.crop)} has more than {MOST_BATCH:,} pixels: make one smaller"
            )
        return self

    @model_validator(mode="after")
    def _scales_fit(self) -> Protocol:
        largest = self.image_scale * max(self.weak.scale[1], *self.eval.scales)
        smallest = self.image_scale * min(self.weak.scale[0], *self.eval.scales)
        if largest > 64 or smallest < 1 / 64:
            raise ValueError(
                f"image_scale times weak.scale or eval.scales is {smallest:g} to {largest:g}, expected 1/64 to 64"
            )
        return self


def stated(protocol: Protocol) -> dict[str, Any]:
    """Give a protocol as JSON values for digests, for run.json and for comparisons with it; see `Protocol`."""
    return protocol.model_dump(mode="json", exclude_defaults=True)
