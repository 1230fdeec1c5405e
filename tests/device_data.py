"""Checks of what is computed on a device, with the device as a parameter: small ones run on every machine's CPU."""

from __future__ import annotations

import copy
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from method_data import CLASSES, make, make_batch, make_protocol, make_scenes, move, optimiser_of
from tiny_data import RUNTIME
from torch import Tensor

from rc2l_bench.config import Protocol, Runtime
from rc2l_bench.cost.symbolic import estimate_step
from rc2l_bench.cost.symbolic import make_batch as make_large_batch
from rc2l_bench.cost.worker import Workload
from rc2l_bench.methods.contract import Method, build, load_config
from rc2l_bench.run.allocations import peak_of, size_of, state_of, take_step
from rc2l_bench.run.evaluate import Evaluation, Images, evaluate
from rc2l_bench.run.hardware import open_fabric
from rc2l_bench.run.optimiser import build_optimiser
from rc2l_bench.run.passes import Objective

CPU = torch.device("cpu")
DETERMINISM = "deterministic implementation"
"""In torch's warnings of kernels that have none."""


def runtime(device: torch.device, **changes: Any) -> Runtime:
    return Runtime.model_validate_json(json.dumps(RUNTIME | {"device": device.type} | changes))


def learn(
    name: str, device: torch.device, steps: int, precision: str = "32-true"
) -> tuple[Method, list[dict], set[str]]:
    """Train on a device; the method, the losses of every step, and warnings of kernels that are not deterministic."""
    fabric = open_fabric(runtime(device, precision=precision))
    method = make(name)
    batches = [move(make_batch(method, seed), device) for seed in range(4)]
    optimiser = optimiser_of(method, "adamw")
    model, stepper = fabric.setup(Objective(method), optimiser)
    history = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(steps):
            torch.manual_seed(1000 + number)
            losses = model(number / steps, **batches[number % 4].tensors())
            fabric.backward(torch.stack(list(losses.values())).sum())
            stepper.step()
            stepper.zero_grad()
            method.after_step()
            history.append({key: value.detach() for key, value in losses.items()})
    torch.use_deterministic_algorithms(False)
    found = {str(one.message).split(" does not")[0] for one in caught if DETERMINISM in str(one.message)}
    return method, [{key: float(value) for key, value in row.items()} for row in history], found


def state_bytes(method: Method) -> list[bytes]:
    return [value.cpu().contiguous().numpy().tobytes() for value in method.state_dict().values()]


def compare_precisions(name: str, device: torch.device, precision: str, steps: int) -> float:
    """The largest distance of the supervised loss, averaged over ten steps, from that in float32, as a share of it.

    Raises:
        AssertionError: a loss is no number.
    """
    curves = []
    for kind in ("32-true", precision):
        _, history, _ = learn(name, device, steps, kind)
        assert np.isfinite([list(row.values()) for row in history]).all(), (name, kind)
        curve = np.array([row["supervised"] for row in history])
        curves.append(curve[: len(curve) // 10 * 10].reshape(-1, 10).mean(1))
    full, mixed = curves
    return float((np.abs(mixed - full) / full[0]).max())


def count(method: Method, device: torch.device) -> Evaluation:
    """What a method predicts for scenes it has not seen, computed on a device."""
    generator = torch.Generator().manual_seed(99)
    image, label = make_scenes(16, generator)
    images = Images(
        ids=[f"{n:02d}" for n in range(16)], image=(255 * image).to(torch.uint8), label=label.to(torch.uint8)
    )
    method = copy.deepcopy(method).to(device).eval()
    return evaluate(method.predict, [images], make_protocol().eval, image_scale=1.0, num_classes=CLASSES, device=device)


def moved_share(one: Evaluation, other: Evaluation) -> float:
    """The share of the pixels that are predicted as another class."""
    return float(np.abs(one.confusion - other.confusion).sum() / 2 / one.confusion.sum())


def peak_against_estimate(name: str, protocol: Protocol, classes: int, device: torch.device) -> float:
    """The peak of torch's allocations in a real step, by its symbolic estimate."""
    torch.manual_seed(0)
    config = load_config(name)
    method = build(name, config, protocol, classes).to(device, memory_format=torch.channels_last).train()
    optimiser = build_optimiser(method, protocol.optimiser)
    batch = move(make_large_batch(protocol, config.views.strong, method.unlabelled, classes), device)
    step = partial(take_step, method, optimiser, batch, 1 - 1 / protocol.steps, protocol.optimiser.clip)
    step()
    return (
        peak_on(device, step, state_of(method, optimiser, batch)) / estimate_step(name, config, protocol, classes).peak
    )


def peak_on(device: torch.device, step: Callable[[], object], known: list[Tensor]) -> float:
    """Bytes at the peak of a step, with what was there before."""
    if device.type == "cpu":
        return size_of(known) + peak_of(step)
    torch.cuda.synchronize(device)
    others = torch.cuda.memory_allocated(device) - size_of(known)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return torch.cuda.max_memory_allocated(device) - others


def images_per_second(protocol: Protocol, device: torch.device, rounds: int) -> float:
    """Images that are augmented in a second, with a weak and two strong views of the unlabelled ones; nothing else."""
    work = Workload("baselines/unimatch", protocol, runtime(device), CLASSES, 1)
    images = work.load()
    work.augment(images, 0)
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    wait()
    begin = time.perf_counter()
    for number in range(rounds):
        work.augment(images, number)
    wait()
    torch.use_deterministic_algorithms(False)
    return rounds * sum(map(len, images.values())) / (time.perf_counter() - begin)
