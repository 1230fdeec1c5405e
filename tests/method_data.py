"""A tiny protocol and tiny batches that methods are tried on."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from rc2l_bench.config import Protocol
from rc2l_bench.methods.contract import Method, MethodConfig, build, load_class, load_config
from rc2l_bench.types import IGNORE, Batch

ROOT = Path(__file__).parent.parent
NOT_METHODS = {"__init__"}
METHODS = sorted(f"baselines/{file.stem}" for file in (ROOT / "baselines").glob("*.py") if file.stem not in NOT_METHODS)
METHODS += ["rc2l_bench/methods/rc2l"]
LEARNERS = [method for method in METHODS if load_class(method).unlabelled]
"""Methods that look at unlabelled images."""
ADDING_UP = ["baselines/cps", "baselines/fixmatch", "baselines/mean_teacher", "baselines/supervised"]
"""Methods whose losses are means over pixels that the batch alone tells."""

CLASSES = 5
SIZE = 32
DEVICE = torch.device("cpu")
"""Of methods and batches; tests/cuda puts another one here."""

PROTOCOL = {
    "net": {
        "backbone": "test_resnet",
        "weights": "none",
        "output_stride": 16,
        "pixel": {"width": 16, "low_width": 8, "rates": [1, 2, 3], "dropout": 0.0},
        "region": {"queries": 6, "dim": 16, "layers": 2, "heads": 2, "feedforward": 32, "dropout": 0.0},
    },
    "batch": {"labelled": 4, "unlabelled": 4},
    "crop": [SIZE, SIZE],
    "image_scale": 1.0,
    "weak": {"scale": [0.7, 1.6], "flip": 0.5},
    "strong": {
        "brightness": 0.3,
        "contrast": 0.3,
        "saturation": 0.3,
        "hue": 0.05,
        "jitter": 0.8,
        "grey": 0.1,
        "blur": 0.3,
        "sigma": [0.3, 1.0],
    },
    "steps": 10,
    "optimiser": {
        "name": "sgd",
        "lr": 0.01,
        "weight_decay": 0.0,
        "momentum": 0.9,
        "power": 0.9,
        "clip": 0.0,
        "head_lr": 1.0,
    },
    "supervised_loss": "ce",
    "eval": {
        "protocol": {"mode": "whole"},
        "scales": [1.0],
        "flip": False,
        "absent": "skip",
        "evaluations": 1,
        "batch": 4,
    },
}


def change(data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy in which keys such as `net.pixel.dropout` have other values."""
    data = json.loads(json.dumps(data))
    for key, value in changes.items():
        *path, last = key.split(".")
        place = data
        for part in path:
            place = place[part]
        assert last in place, key
        place[last] = value
    return data


def make_protocol(**changes: Any) -> Protocol:
    """The tiny protocol; `net__pixel__dropout=0.5` changes a value."""
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return Protocol.model_validate_json(json.dumps(change(PROTOCOL, dotted)))


def make_config(method: str, changes: dict[str, Any] | None = None) -> MethodConfig:
    """A method's own yaml, with its unlabelled losses switched on from the first step."""
    config = load_config(method)
    at_once = {key: 0.0 for key in ("warm_up", "ramp") if key in type(config).model_fields}
    if "contrast" in type(config).model_fields:
        at_once["contrast.probability"] = 0.0  # an untrained network is sure of nothing
    data = change(config.model_dump(mode="json"), at_once | (changes or {}))
    return type(config).model_validate_json(json.dumps(data))


def make(method: str, changes: dict[str, Any] | None = None, seed: int = 0, **protocol: Any) -> Method:
    """A freshly initialised method on the tiny protocol, in train mode."""
    torch.manual_seed(seed)
    return build(method, make_config(method, changes), make_protocol(**protocol), CLASSES).train().to(DEVICE)


def without_unlabelled_loss(method: str) -> dict[str, Any]:
    """The changes of its config that switch off what a method learns from unlabelled images."""
    off = load_class(method).switched_off
    for name in off:
        inner: Any = load_config(method).model_dump()
        for part in name.split("."):
            inner = inner.get(part) if isinstance(inner, dict) else None
        assert inner is not None, (
            f"{method}: `switched_off` names '{name}', which {method}.yaml does not have: say there with which numbers "
            "nothing is learnt from unlabelled images"
        )
    return dict(off)


def make_scenes(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Blocks of 8 pixels, one noisy colour per class: image (B, 3, H, W), label (B, H, W)."""
    colours = torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.2, 0.2], [0.2, 0.9, 0.2], [0.2, 0.2, 0.9], [0.9, 0.9, 0.2]])
    cells = torch.randint(0, CLASSES, (count, SIZE // 8, SIZE // 8), generator=generator)
    label = cells.repeat_interleave(8, 1).repeat_interleave(8, 2)
    noise = 0.1 * torch.randn(count, 3, SIZE, SIZE, generator=generator)
    return (colours[label].permute(0, 3, 1, 2) + noise).clamp(0, 1), label


def make_batch(method: Method, seed: int = 0, labelled: int = 4, unlabelled: int = 4) -> Batch:
    """A batch as a method wants it; the first unlabelled image has padding, some labels are ignored."""
    generator = torch.Generator().manual_seed(seed)
    views = method.config.views.strong
    unlabelled = unlabelled if method.unlabelled else 0
    image, label = make_scenes(labelled, generator)
    weak, _ = make_scenes(unlabelled, generator)
    label[:1, :4] = IGNORE
    valid = torch.ones(unlabelled, SIZE, SIZE, dtype=torch.bool)
    valid[:1, :, -6:] = False
    box = torch.zeros(views, unlabelled, SIZE, SIZE, dtype=torch.bool)
    for view in range(views):
        box[view, :, 4 * view : 20, 8:24] = True
    gain = 0.6 + 0.6 * torch.rand(views, unlabelled, 3, 1, 1, generator=generator)
    strong = (weak * gain).clamp(0, 1) if method.config.views.recolour else weak.repeat(views, 1, 1, 1, 1)
    return move(Batch(image=image, label=label, weak=weak, strong=strong, box=box, valid=valid), DEVICE)


def move(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device."""
    return Batch(**{name: tensor.to(device) for name, tensor in batch.tensors().items()})


def drop_unlabelled(batch: Batch) -> Batch:
    """The batch without its unlabelled images."""
    return replace(batch, weak=batch.weak[:0], strong=batch.strong[:, :0], box=batch.box[:, :0], valid=batch.valid[:0])


def optimiser_of(method: Method, name: str = "sgd") -> torch.optim.Optimizer:
    """A fresh optimiser over the trained parameters."""
    parameters = [p for group, _ in method.param_groups() for p in group]
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=2e-3)
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def step(method: Method, optimiser: torch.optim.Optimizer, batch: Batch, number: int, steps: int) -> dict[str, float]:
    """One training step, as the trainer does it."""
    torch.manual_seed(1000 + number)
    losses = method(batch, number / steps)
    torch.stack(list(losses.values())).sum().backward()
    optimiser.step()
    optimiser.zero_grad()
    method.after_step()
    return {name: float(value.detach()) for name, value in losses.items()}


def train(method: Method, steps: int, batches: list[Batch], optimiser: str = "sgd") -> list[dict[str, float]]:
    """Steps from the first on; the losses of each."""
    state = optimiser_of(method, optimiser)
    return [step(method, state, batches[i % len(batches)], i, steps) for i in range(steps)]


@cache
def learned_regions() -> dict[str, torch.Tensor]:
    """Weights of a region network that tells the classes apart."""
    method = make("baselines/supervised_region")
    train(method, 60, [make_batch(method, seed) for seed in range(6)], "adamw")
    return method.student.state_dict()


def make_learned(name: str, changes: dict[str, Any]) -> Method:
    """A method whose student and teacher have learned something."""
    method = make(name, changes)
    method.student.load_state_dict(learned_regions())
    method.teacher.net.load_state_dict(learned_regions())
    return method
