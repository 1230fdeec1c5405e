"""A protocol, a data set and a checkout that are as small as they can be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from rc2l_bench.config import MixConfig, Protocol, Views
from rc2l_bench.data import packing, splits
from rc2l_bench.data.datasets.base import Sample
from rc2l_bench.data.decode import encode_image, encode_mask
from rc2l_bench.data.splits import Split, TrainingImages, split_id

ROOT = Path(__file__).parents[1]
CLASSES = ("ground", "disc", "box")
CANVAS = (40, 48)
COUNTS = {"train": 12, "val": 5, "test": 3}
LABELLED = 5

NET: dict[str, Any] = {
    "backbone": "test_resnet",
    "weights": "none",
    "output_stride": 16,
    "pixel": {"width": 16, "low_width": 8, "rates": [1, 2, 3], "dropout": 0.1},
    "region": {"queries": 8, "dim": 16, "layers": 1, "heads": 2, "feedforward": 32, "dropout": 0.0},
}
PROTOCOL: dict[str, Any] = {
    "net": NET,
    "batch": {"labelled": 4, "unlabelled": 4},
    "crop": [32, 32],
    "image_scale": 1.0,
    "weak": {"scale": [0.7, 1.6], "flip": 0.5},
    "strong": {
        "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.25, "jitter": 0.8, "grey": 0.2, "blur": 0.5,
        "sigma": [0.1, 2.0],
    },
    "steps": 12,
    "optimiser": {
        "name": "adamw", "lr": 0.003, "weight_decay": 0.0001, "momentum": 0.9, "power": 0.9, "clip": 1.0,
        "head_lr": 2.0,
    },
    "supervised_loss": "ce",
    "eval": {
        "protocol": {"mode": "whole"}, "scales": [1.0], "flip": False, "absent": "skip", "evaluations": 3, "batch": 2,
    },
}  # fmt: skip
RUNTIME: dict[str, Any] = {
    "device": "cpu", "devices": 1, "precision": "32-true", "threads": 1, "deterministic": True, "workers": 0,
    "cache_mb": 16, "checkpoint_every": 2, "checkpoint_minutes": 0, "share_minutes": 0,
    "log_every": 5, "trackers": [], "levers": {"compile": False, "accumulate": 1, "checkpoint_activations": False},
}  # fmt: skip
TUNING: dict[str, Any] = {
    "trials": 2, "sampler": "quasi_random", "seed": 0, "lr": {"low": 0.25, "high": 8.0, "log": True}, "own": 3,
    "split": "1_2", "budget": 0.5,
}  # fmt: skip
VIEWS = {
    "strong": 2,
    "recolour": True,
    "mix": {"probability": 1.0, "boxes": 1, "area": [0.2, 0.5], "ratio": [0.5, 2.0]},
}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with changes; a dict inside a dict is merged, anything else replaced."""
    out = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict) and "mode" not in value
        out[key] = merged(out[key], value) if both else value
    return out


def protocol(**changes: Any) -> Protocol:
    return Protocol.model_validate_json(json.dumps(merged(PROTOCOL, changes)))


def views(strong: int = 2, **mix: Any) -> Views:
    return Views.model_validate_json(json.dumps(merged(VIEWS, {"strong": strong, "mix": mix})))


def mix(**changes: Any) -> MixConfig:
    return views(**changes).mix


def make_sample(part: str, number: int) -> Sample:
    """A grey scene with a bright disc and a dark box, void at its border; sizes differ from sample to sample."""
    rng = np.random.default_rng([number, len(part)])
    height, width = 33 + number % 4, CANVAS[1] - number % 3
    mask = np.zeros((height, width), np.uint8)
    y, x = np.mgrid[:height, :width]
    mask[(y - rng.integers(8, 24)) ** 2 + (x - rng.integers(8, 36)) ** 2 < 50] = 1
    top, left = rng.integers(2, 20, 2)
    mask[top : top + 9, left : left + 12] = 2
    colours = np.array([[90, 90, 90], [230, 180, 60], [30, 60, 120]])
    image = np.clip(colours[mask] + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    mask[:, :2] = 255
    return Sample(
        id=f"{part}_{number:02d}", part=part, image=encode_image(image, stored=True), suffix="png",
        mask=encode_mask(mask, stored=True),
    )  # fmt: skip


def samples(part: str) -> list[Sample]:
    return [make_sample(part, number) for number in range(COUNTS[part])]


def pictures(count: int, height: int, width: int) -> np.ndarray:
    """Noise, (count, H, W, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def write_data(root: Path, dataset: str = "tiny", split: str = "1_4", seeds: Sequence[int] = (0, 1)) -> None:
    """Shards and a split as the stages before `train` leave them; every seed has the same labels."""
    meta = {"name": dataset, "classes": list(CLASSES), "palette": [[0, 0, 0], [255, 0, 0], [0, 0, 255]],
            "canvas": list(CANVAS)}  # fmt: skip
    folder, train = root / "data/shards" / dataset, samples("train")
    labelled, ids = train[:LABELLED], [sample.id for sample in train]
    plan = Split(
        dataset=dataset, name=split, labelled=tuple(ids[:LABELLED]), unlabelled=None,
        train=TrainingImages(count=len(ids), ids_sha256=split_id(ids)), pixels=dict.fromkeys(CLASSES, 1), provenance={},
    )  # fmt: skip
    packing.write(folder / "pool", train, meta, "train", 100, with_masks=False)
    packing.write(folder / "val", samples("val"), meta, "val", 100, with_masks=True)
    packing.write(folder / "test", samples("test"), meta, "test", 100, with_masks=True)
    for seed in seeds:
        out = folder / "labelled" / split / f"seed{seed}"
        packing.write(out, labelled, meta, "train", 100, with_masks=True, split=split, split_id=plan.id)
        audited = folder / "audit" / split / f"seed{seed}"
        packing.write(audited, train[LABELLED:], meta, "train", 100, with_masks=True)
        splits.write(plan, root / "data/splits" / dataset / split / f"seed{seed}.json")


def params(**changes: Any) -> dict[str, Any]:
    """params.yaml, with changes."""
    cell = {"dataset": ["tiny"], "split": ["1_4"], "method": ["baselines/supervised"], "seed": [0]}
    base = {
        "grids": {}, "grid": cell, "ablation": {"single": cell},
        "split": {"seed": 0, "draws": "by_seed", "policy": "balanced", "held_out": 0.25}, "tuning": {"default": TUNING},
        "shard": {"samples_per_shard": 64, "mirror_gb": 1},
        "runtime": RUNTIME, "eval": {"corruptions": []}, "protocol": {"default": PROTOCOL}, "recipes": {},
    }  # fmt: skip
    return merged(base, changes)


def write_yaml(path: Path, data: Any) -> None:
    with path.open("w") as file:
        YAML(typ="safe").dump(data, file)


def write_checkout(root: Path, **changes: Any) -> None:
    """The files of a checkout around the tiny data set; the package itself is the installed one."""
    for name in ("baselines", "pipelines"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", root)
    write_yaml(root / "params.yaml", params(**changes))
    write_data(root)
