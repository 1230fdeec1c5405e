"""The typed form of params.yaml and of a method's yaml. Numbers live in YAML; types, units and ranges live here."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from rc2l_bench.errors import UsageError
from rc2l_bench.metrics import Absent
from rc2l_bench.recipes import write_out
from rc2l_bench.schema import Model as Model
from rc2l_bench.schema import load as load
from rc2l_bench.tuning import TuningConfig
from rc2l_bench.variants import MARK, file_name_of, method_of

TUNING = "tuning-"
"""What the name of a dataset's tuning images begins with."""

T = TypeVar("T")


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"goes from small to large, got {list(pair)}")
    return pair


def _different(values: list[T]) -> list[T]:
    if len(values) > len(set(values)):
        raise ValueError(f"names something twice: {values}")
    return values


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Size = Annotated[int, Field(ge=8, le=8192)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
MethodId = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(/[A-Za-z_]\w*)+([@+]\w+)?$")]
TrackerName = Literal["dvclive", "tensorboard", "mlflow", "wandb"]


def _by_id(methods: list[str]) -> list[str]:
    return _different([method_of(method) for method in methods])


class Grid(Model):
    """Cells: the product of four lists. A method may be a variant, `baselines/cps+plain`, see `variants.FILE_MARK`."""

    dataset: Annotated[list[Name], Field(min_length=1), AfterValidator(_different)]
    split: Annotated[list[Name], Field(min_length=1), AfterValidator(_different)]
    method: Annotated[list[MethodId], Field(min_length=1), AfterValidator(_by_id)]
    seed: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_different)]


class SplitConfig(Model):
    """How splits are drawn that are not imported from a published list."""

    seed: Annotated[int, Field(ge=0)]
    """Seed of the one permutation that all generated splits of a dataset share."""
    held_out: Annotated[float, Field(gt=0, lt=1)]
    """Share of the training images that `tuning-<dataset>` holds out and scores; drawn by hashing (seed, id)."""
    policy: Literal["uniform", "balanced"]
    """`uniform`: the first images of the permutation; `balanced`: every class appears whenever possible."""


class ShardConfig(Model):
    """How samples are packed into WebDataset tars."""

    samples_per_shard: Count


class PixelNetConfig(Model):
    """DeepLabv3+ on the backbone."""

    width: Count
    """Channels of ASPP and decoder (256 in the published recipes)."""
    low_width: Count
    """Channels kept of the stride-4 features (48 in CPS and UniMatch, 256 in U2PL)."""
    rates: tuple[Count, Count, Count]
    """Dilations of the three atrous branches."""
    dropout: Share


class RegionNetConfig(Model):
    """MaskFormer on the backbone."""

    queries: Count
    dim: Count
    """D: channels of pixel decoder, queries and mask embedding (256 at paper scale)."""
    layers: Count
    heads: Count
    feedforward: Count
    dropout: Share


class NetConfig(Model):
    """The network, equal for every method."""

    backbone: str
    """Name of a timm model that supports features_only."""
    weights: str
    """`none`, `imagenet` (a local safetensors file, else timm's own download), the path of a safetensors file, or
    `maskformer:<file>`, a checkpoint in transformers' layout: for a RegionNet as a whole, else for the backbone."""
    output_stride: Literal[8, 16, 32]
    pixel: PixelNetConfig
    region: RegionNetConfig


class BatchConfig(Model):
    """Images per step, over all processes."""

    labelled: Count
    unlabelled: Annotated[int, Field(ge=0, multiple_of=2)]
    """Even, because CutMix partners come in pairs."""


class WeakConfig(Model):
    """The geometry, one affine warp; labels and all views of an image share it."""

    scale: Range
    """Smallest and largest magnification of the image; drawn log-uniformly."""
    flip: Share
    """Probability of a horizontal flip."""


class StrongConfig(Model):
    """Colours of the strong views; equal for every method."""

    brightness: NonNegative
    contrast: NonNegative
    saturation: NonNegative
    hue: Annotated[float, Field(ge=0, le=0.5)]
    jitter: Share
    """Probability that an image's brightness, contrast, saturation and hue are changed."""
    grey: Share
    """Probability of a grey image."""
    blur: Share
    """Probability of a Gaussian blur."""
    sigma: Range
    """Range of the blur's standard deviation in pixels."""


class OptimiserConfig(Model):
    """Poly schedule: lr · (1 − step/steps)^power, applied before every step."""

    name: Literal["sgd", "adamw"]
    lr: Positive
    weight_decay: NonNegative
    momentum: Share
    """Of SGD; AdamW uses betas (momentum, 0.999)."""
    power: NonNegative
    clip: NonNegative
    """Largest norm of the gradient over all parameters; 0 = not clipped."""
    head_lr: Positive
    """Learning rate of everything outside the backbone, as a multiple of lr."""


class Whole(Model):
    """The whole image at once, at its own size."""

    mode: Literal["whole"]


class Sliding(Model):
    """Overlapping windows, the last ones moved inside the image; a smaller image is a window of its own size."""

    mode: Literal["sliding"]
    window: tuple[Size, Size]
    """Height and width, network pixels."""
    stride: Annotated[float, Field(gt=0, le=1)]
    """Step between windows, as a share of the window (2/3 in the published codes), rounded up."""
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
    scales: Annotated[list[Positive], Field(min_length=1)]
    """The image is scored at each of these scales and the probabilities are averaged; [1.0] = single scale."""
    flip: bool
    """Average with the mirrored image."""
    absent: Absent
    """What a class counts for that has no pixel in the part that is scored, see `metrics.class_iou`."""
    evaluations: Count
    """How often the validation part is scored during training, the last time at the end."""
    batch: Count
    """Images at a time; 1 where images differ in size."""


class Protocol(Model):
    """Everything that must be equal for two numbers to be comparable."""

    net: NetConfig
    batch: BatchConfig
    crop: tuple[Size, Size]
    """Height and width of a training crop, network pixels."""
    image_scale: Annotated[float, Field(gt=0, le=4)]
    """Network pixels per image pixel, in training (times weak.scale) and in evaluation. Scores are
    interpolated back, so that the metric always counts the mask's own pixels."""
    weak: WeakConfig
    strong: StrongConfig
    steps: Annotated[int, Field(ge=1, le=10_000_000)]
    optimiser: OptimiserConfig
    supervised_loss: Literal["ce", "ohem"]
    eval: EvalConfig

    @model_validator(mode="after")
    def _blur_fits(self) -> Protocol:
        if 2 * self.strong.sigma[1] > min(self.crop) - 2:
            raise ValueError(f"strong.sigma: {self.strong.sigma[1]} is too much blur for a crop of {list(self.crop)}")
        return self


class Runtime(Model):
    """On what a run is carried out.

    The fields of `QUIET` change no number and take no part in the fingerprint.
    """

    QUIET: ClassVar[frozenset[str]] = frozenset({"workers", "cache_mb", "checkpoint_every", "trackers"})

    device: Literal["auto", "cpu", "cuda"]
    devices: Count
    """Processes; batches are the same for any number."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    threads: Count
    """Threads of torch on the CPU: sums in another order give other bits."""
    deterministic: bool
    """On CUDA, deterministic kernels only (slower)."""
    workers: Annotated[int, Field(ge=0, le=64)]
    """Loader processes; 0 loads in the training process."""
    cache_mb: Annotated[int, Field(ge=0)]
    """Decoded images kept in memory per loader process, MiB."""
    checkpoint_every: Count
    """Steps between checkpoints."""
    log_every: Count
    """Steps that one row of history.csv averages over."""
    trackers: Annotated[list[TrackerName], AfterValidator(_different)]
    """Who else hears of every row of history.csv; each is an extra of the package, docs/USING.md."""


class Params(Model):
    """params.yaml."""

    grid: Grid
    grids: dict[str, Grid]
    """Named grids to choose from."""
    ablation: dict[Name, Grid]
    """Studies by name: `rc2l-bench ablate`."""
    split: SplitConfig
    tuning: dict[str, TuningConfig]
    """By dataset; a dataset without an entry of its own uses `default`."""
    shard: ShardConfig
    runtime: Runtime
    protocol: dict[str, Protocol]
    """By dataset; a dataset without one of its own uses `default`."""
    recipes: dict[str, Protocol]
    """Named protocols to choose from."""

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Write out the recipes; see `write_out`.

        Raises:
            ValueError: a recipe is unknown or circular, or the grid has a name that DVC cannot read.
        """
        grid = data.get("grid")
        methods = grid.get("method") if isinstance(grid, dict) else None
        for method in methods if isinstance(methods, list) else []:
            if MARK in str(method):
                raise ValueError(f"grid.method: write {file_name_of(method)} for {method}: DVC reads @ in its own way")
        return write_out(data)

    def protocol_of(self, dataset: str) -> Protocol:
        """The protocol of a dataset; see `protocol_name`. That of its tuning images is a shorter one, scored once."""
        base = dataset.removeprefix(TUNING)
        protocol = self.protocol[self.protocol_name(base)]
        if base == dataset:
            return protocol
        steps = max(1, round(protocol.steps * self.tuning_of(base).budget))
        evaluation = protocol.eval.model_copy(update={"evaluations": 1})
        return protocol.model_copy(update={"steps": steps, "eval": evaluation})

    def tuning_of(self, dataset: str) -> TuningConfig:
        """How a dataset is tuned.

        Raises:
            UsageError: neither the dataset nor `default` is there.
        """
        found = self.tuning.get(dataset) or self.tuning.get("default")
        if found is None:
            raise UsageError(f"params.yaml: tuning has neither '{dataset}' nor 'default': add one of them")
        return found

    def describe_protocol(self, dataset: str) -> str:
        """Say in a line which protocol a dataset is trained with: a user's own images come without one."""
        name, protocol = self.protocol_name(dataset), self.protocol_of(dataset)
        net, batch = protocol.net, protocol.batch
        own = "" if name == dataset else f" (params.yaml has no protocol.{dataset})"
        return (
            f"protocol '{name}'{own}: {net.backbone}, weights {net.weights}, "
            f"crop {protocol.crop[0]}×{protocol.crop[1]}, "
            f"{protocol.steps:,} steps of {batch.labelled} + {batch.unlabelled} images"
        )

    def protocol_name(self, dataset: str) -> str:
        """The key of `protocol` that a dataset uses: its own name, else `default`.

        Raises:
            UsageError: neither the dataset nor `default` is there.
        """
        for name in (dataset, "default"):
            if name in self.protocol:
                return name
        raise UsageError(f"params.yaml: protocol has neither '{dataset}' nor 'default': add one of them")


class MixConfig(Model):
    """CutMix boxes of one strong view."""

    probability: Share
    """Probability that an image is mixed with its partner at all."""
    boxes: Annotated[int, Field(ge=1, le=8)]
    """Boxes per image; overlapping boxes are XOR-ed (CPS uses 3, U2PL and UniMatch 1)."""
    area: Annotated[tuple[Share, Share], AfterValidator(_rising)]
    """Range of the share of the image that all boxes together would cover; drawn uniformly, shared among the boxes."""
    ratio: Range
    """Range of height / width of a box; drawn log-uniformly."""


class Views(Model):
    """The strong views that a method wants of each unlabelled image."""

    strong: Annotated[int, Field(ge=0, le=4)]
    recolour: bool
    """Whether strong views have the strong colours of the protocol; if not, they are the weak view, with boxes."""
    mix: MixConfig
