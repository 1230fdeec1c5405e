"""What methods cost side by side: each in a fresh process, measured in interleaved rounds or estimated symbolically."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rc2l_bench.config import Params, Protocol, Runtime
from rc2l_bench.errors import BenchError
from rc2l_bench.schema import read_yaml

PAPER_SCALE = Path("reports/paper_scale.yaml")
"""Numbers of methods that are larger at paper scale than in their yaml."""
PARTS = ("augment", "forward", "backward", "optimise")
"""Parts of a step that are compared; loading is the same for all."""

Answer = dict[str, Any]


def scale_protocol(
    params: Params, dataset: str, backbone: str | None, crop: tuple[int, int] | None, batch: int | None
) -> Protocol:
    """The protocol of a dataset with another backbone, crop, or number of labelled and of unlabelled images.

    Raises:
        UsageError: neither the dataset nor `default` has a protocol.
        ValidationError: a value is absurd.
    """
    data = params.protocol_of(dataset).model_dump(mode="json")
    data["net"] |= {"backbone": backbone, "weights": "none"} if backbone else {"weights": "none"}
    data |= {"crop": list(crop)} if crop else {}
    data["batch"] |= {"labelled": batch, "unlabelled": batch} if batch else {}
    return Protocol.model_validate_json(json.dumps(data))


def estimate(method: str, protocol: Protocol, num_classes: int, most_regions: int | None = None) -> Answer:
    """Memory by kind, bytes, and FLOPs of a training step at paper scale, from a fresh process.

    Returns:
        `memory` and `flops` as in `symbolic.StepEstimate`; `seconds` and `real_mb`, what finding out took.
    """
    changes = read_yaml(PAPER_SCALE).get(method, {}) if PAPER_SCALE.is_file() else {}
    return _ask("estimate", method, protocol, num_classes, changes=changes, most_regions=most_regions)


def measure(
    methods: Sequence[str],
    protocol: Protocol,
    runtime: Runtime,
    num_classes: int,
    *,
    rounds: int,
    steps: int,
    told: Callable[[str], None] = lambda _: None,
) -> dict[str, list[Answer]]:
    """Steps of methods on the same made-up images, in interleaved rounds, each in a fresh process.

    Args:
        methods: ids.
        protocol: networks, crop, batch, optimiser.
        runtime: device, precision and threads.
        num_classes: K.
        rounds: processes per method.
        steps: that are timed per process, after a few others.
        told: hears what is measured next.

    Returns:
        By method, one answer per round: `step_seconds` (median and p95), `parts` (mean seconds), `images_per_second`,
        `peak_memory` (MiB) and `parameters`.
    """
    found: dict[str, list[Answer]] = {method: [] for method in methods}
    setting = {"runtime": runtime.model_dump(mode="json"), "steps": steps}
    for number in range(rounds):
        for method in methods:
            told(f"round {number + 1} of {rounds}: {method}")
            found[method].append(_ask("measure", method, protocol, num_classes, **setting))
    return found


def middle(answers: Sequence[Answer], *keys: str) -> float:
    """Median over rounds of a number."""
    return median(_number(answer, keys) for answer in answers)


def ratio(answers: Sequence[Answer], reference: Sequence[Answer], *keys: str) -> float:
    """Median over rounds of a number as a multiple of the reference's in the same round."""
    pairs = zip(answers, reference, strict=True)
    return median(_number(mine, keys) / _number(other, keys) for mine, other in pairs)


def _number(answer: Mapping[str, Any], keys: Sequence[str]) -> float:
    value: Any = answer
    for key in keys:
        value = value[key]
    return float(value)


def _ask(kind: str, method: str, protocol: Protocol, num_classes: int, **more: Any) -> Answer:  # noqa: ANN401
    """Starts a process and waits for its answer."""
    asked = {"kind": kind, "method": method, "protocol": protocol.model_dump(mode="json"), "classes": num_classes}
    command = [sys.executable, "-m", "rc2l_bench.cost.worker"]
    done = subprocess.run(command, input=json.dumps(asked | more), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise BenchError(f"{method}: its cost could not be found: {last.removeprefix('error: ')}")
    answer: Answer = json.loads(done.stdout.splitlines()[-1])
    return answer
