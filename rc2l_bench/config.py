"""The typed form of params.yaml and of a method's yaml. Numbers live in YAML; types, units and ranges live here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from rc2l_bench.bounds import Count, MethodId, Name, NonNegative, Positive, Range, Seed, Share, Size, different
from rc2l_bench.errors import UsageError
from rc2l_bench.protocol import (
    BatchConfig,
    CenterCrop,
    EvalConfig,
    NetConfig,
    OptimiserConfig,
    PixelNetConfig,
    Protocol,
    RegionNetConfig,
    Sliding,
    StrongConfig,
    WeakConfig,
    Whole,
    stated,
)
from rc2l_bench.recipes import write_out
from rc2l_bench.runtime import NO_LEVERS, Levers, Runtime
from rc2l_bench.schema import Model, load, read_yaml
from rc2l_bench.tuning import TuningConfig
from rc2l_bench.variants import MARK, file_name_of, method_of
from rc2l_bench.views import MixConfig, OneView, TwoViews, Views

__all__ = [
    "NO_LEVERS",
    "BatchConfig",
    "CenterCrop",
    "Corruption",
    "Count",
    "EvalConfig",
    "FurtherScores",
    "Grid",
    "Levers",
    "MethodId",
    "MixConfig",
    "Model",
    "Name",
    "NetConfig",
    "NonNegative",
    "OneView",
    "OptimiserConfig",
    "Params",
    "PixelNetConfig",
    "Positive",
    "Protocol",
    "Range",
    "RegionNetConfig",
    "Runtime",
    "ShardConfig",
    "Share",
    "Size",
    "Sliding",
    "SplitConfig",
    "StrongConfig",
    "TwoViews",
    "Views",
    "WeakConfig",
    "Whole",
    "load",
    "stated",
]  # fmt: skip
"""All kinds of settings come from here, whatever module they are written in."""

MOST_CELLS = 10_000
"""Of a grid; every cell is a stage of DVC, which takes seconds for each thousand of them."""
DATASETS = Path("datasets")
"""Where the checkout keeps the descriptions of the user's own data sets."""
TUNING = "tuning-"
"""What the name of a dataset's tuning images begins with."""


def _by_id(methods: list[str]) -> list[str]:
    return different([method_of(method) for method in methods])


class Grid(Model):
    """Cells: the product of four lists. A method may be a variant, `baselines/cps+plain`, see `variants.FILE_MARK`."""

    dataset: Annotated[list[Name], Field(min_length=1, max_length=MOST_CELLS), AfterValidator(different)]
    split: Annotated[list[Name], Field(min_length=1, max_length=MOST_CELLS), AfterValidator(different)]
    method: Annotated[list[MethodId], Field(min_length=1, max_length=MOST_CELLS), AfterValidator(_by_id)]
    seed: Annotated[list[Seed], Field(min_length=1, max_length=MOST_CELLS), AfterValidator(different)]

    @model_validator(mode="after")
    def _can_be_carried_out(self) -> Grid:
        cells = len(self.dataset) * len(self.split) * len(self.method) * len(self.seed)
        if cells > MOST_CELLS:
            raise ValueError(f"has {cells:,} cells, at most {MOST_CELLS:,} are meant to be here: take lists apart")
        return self


Draws = Literal["by_seed", "fixed", "list", "all"]
"""What the seed of a cell changes in its labels: another draw; nothing, because all cells have one draw, because it is
a list, or because every image is labelled."""


class SplitConfig(Model):
    """How splits are drawn that are not imported from a published list."""

    seed: Seed
    """Seed of the permutation of the first draw."""
    draws: Literal["by_seed", "fixed"]
    """`by_seed`: a cell of seed k trains on draw k, with seed `seed` + k, so that results vary over labels, too; every
    method has the same draws. `fixed`: all seeds train on the first draw."""
    held_out: Annotated[float, Field(gt=0, lt=1)]
    """Share of the training images that `tuning-<dataset>` holds out and scores; drawn by hashing (seed, id)."""
    policy: Literal["uniform", "balanced"]
    """`uniform`: the first images of the permutation; `balanced`: every class appears whenever possible."""


Corruption = Literal["noise", "blur", "brightness", "contrast", "jpeg"]
"""Ways to spoil an image, see `rc2l_bench.run.corruptions`."""


class FurtherScores(Model):
    """What is scored of a finished training beside its mIoU; no part of a protocol, for it moves no other number."""

    corruptions: Annotated[list[Corruption], AfterValidator(different)]
    """The validation part is scored once more under each of them; trials of `rc2l-bench tune` are not."""


class ShardConfig(Model):
    """How samples are packed into WebDataset tars."""

    samples_per_shard: Count
    mirror_gb: Annotated[float, Field(ge=0)]
    """Room for copies of pools that lie far away, GB; a pool that does not fit is read piece by piece."""


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
    eval: FurtherScores
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
        """The key of `protocol` that a dataset uses: its own name, that of what it extends, else `default`.

        Raises:
            UsageError: none of them is there.
        """
        for name in (dataset, extended_by(dataset), "default"):
            if name in self.protocol:
                return name
        raise UsageError(f"params.yaml: protocol has neither '{dataset}' nor 'default': add one of them")


def extended_by(dataset: str) -> str:
    """The dataset that `datasets/<dataset>.yaml` extends by more unlabelled images; the dataset itself if none."""
    path = DATASETS / f"{dataset}.yaml"
    content = read_yaml(path) if path.is_file() else None
    return str(content["extends"]) if isinstance(content, dict) and "extends" in content else dataset
