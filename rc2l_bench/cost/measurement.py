"""Compare what methods cost, each in a fresh process: measured in interleaved rounds, or estimated symbolically."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rc2l_bench.config import NO_LEVERS, Levers, Params, Protocol, Runtime
from rc2l_bench.errors import BenchError
from rc2l_bench.run.cell import vary_protocol
from rc2l_bench.schema import check, read_yaml
from rc2l_bench.variants import protocol_changes

PAPER_SCALE = Path("reports/paper_scale.yaml")
"""File of numbers that are larger at paper scale than in a method's yaml."""
PARTS = ("augment", "forward", "backward", "optimise")
"""Parts of a step that are compared; loading is the same for all."""

Answer = dict[str, Any]


def scale_protocol(
    params: Params, dataset: str, backbone: str | None, crop: tuple[int, int] | None, batch: int | None
) -> Protocol:
    """Change the protocol of a dataset in what its cost depends on.

    Args:
        params: with the protocols.
        dataset: name.
        backbone: name of a timm model; None = the protocol's.
        crop: height and width, network pixels; None = the protocol's.
        batch: labelled images, and as many unlabelled ones; None = the protocol's.

    Raises:
        UsageError: neither the dataset nor `default` has a protocol, or a value is absurd.
    """
    data = params.protocol_of(dataset).model_dump(mode="json")
    # Without pretrained weights, which cost the same as any others and would have to be there.
    data["net"] |= {"backbone": backbone, "weights": "none"} if backbone else {"weights": "none"}
    data |= {"crop": list(crop)} if crop else {}
    data["batch"] |= {"labelled": batch, "unlabelled": batch} if batch else {}
    # Checked anew, as a file would be; `model_copy` takes any value for valid.
    return check(Protocol, data, Path("--backbone, --crop, --batch"))


def estimate(
    method: str,
    protocol: Protocol,
    num_classes: int,
    most_regions: int | None = None,
    levers: Levers = NO_LEVERS,
) -> Answer:
    """Estimate memory by kind and FLOPs of a training step at paper scale, in a fresh process.

    Args:
        method: id.
        protocol: networks, crop, batch, optimiser.
        num_classes: K.
        most_regions: regions per image; None = as many as there could be, see `worst_case`.
        levers: of the runtime; whether networks are compiled changes no estimate.

    Returns:
        `memory` (bytes) and `flops` as in `symbolic.StepEstimate`; `seconds` and `real_mb` (MiB) of the process.

    Raises:
        BenchError: the process failed.
    """
    changes = read_yaml(PAPER_SCALE).get(method, {}) if PAPER_SCALE.is_file() else {}
    return _ask(
        "estimate",
        method,
        protocol,
        num_classes,
        changes=changes,
        most_regions=most_regions,
        levers=levers.model_dump(),
    )


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
    """Measure steps of methods on the same made-up images, in interleaved rounds, each in a fresh process.

    Fresh, because a process never forgets its peak of resident memory, nor its allocator what an earlier method needed.

    Args:
        methods: ids.
        protocol: networks, crop, batch, optimiser.
        runtime: device, precision and threads.
        num_classes: K.
        rounds: processes per method.
        steps: that are timed per process, after a few others.
        told: called with a text that says what is measured next.

    Returns:
        By method, one answer per round: `step_seconds` (median and p95), `parts` (mean seconds), `images_per_second`,
        `peak_memory` (MiB) and `parameters`.

    Raises:
        BenchError: a process failed.
    """
    found: dict[str, list[Answer]] = {method: [] for method in methods}
    setting = {"runtime": runtime.model_dump(mode="json"), "steps": steps}
    # Rounds outside, methods inside: whatever slows the machine for a while slows all methods alike.
    for number in range(rounds):
        for method in methods:
            told(f"round {number + 1} of {rounds}: {method}")
            found[method].append(_ask("measure", method, protocol, num_classes, **setting))
    return found


def middle(answers: Sequence[Answer], *keys: str) -> float:
    """Take the median over rounds of a number, found by its keys in an answer."""
    return median(_number(answer, keys) for answer in answers)


def ratio(answers: Sequence[Answer], reference: Sequence[Answer], *keys: str) -> float:
    """Take the median over rounds of a number as a multiple of the reference's.

    Args:
        answers: one for each round.
        reference: likewise, of the reference.
        keys: way to the number in an answer.
    """
    # Divided within a round, where both were measured under the same load, not median by median.
    pairs = zip(answers, reference, strict=True)
    return median(_number(mine, keys) / _number(other, keys) for mine, other in pairs)


def whole_training(method: str, protocol: Protocol, answers: Sequence[Answer]) -> float:
    """Tell what the steps of a whole training take at the pace that was measured.

    Args:
        method: id; a variant may have another number of steps.
        protocol: that was measured.
        answers: one for each round.

    Returns:
        Seconds, without loading and evaluations.
    """
    steps = vary_protocol(protocol, protocol_changes(method), method).steps
    return steps * middle(answers, "step_seconds", "median")


def _number(answer: Mapping[str, Any], keys: Sequence[str]) -> float:
    value: Any = answer
    for key in keys:
        value = value[key]
    return float(value)


def _ask(kind: str, method: str, protocol: Protocol, num_classes: int, **more: Any) -> Answer:  # noqa: ANN401
    """Start a process and wait for its answer."""
    protocol = vary_protocol(protocol, protocol_changes(method), method)
    asked = {"kind": kind, "method": method, "protocol": protocol.model_dump(mode="json"), "classes": num_classes}
    command = [sys.executable, "-m", "rc2l_bench.cost.worker"]
    done = subprocess.run(command, input=json.dumps(asked | more), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise BenchError(f"{method}: its cost could not be found: {last.removeprefix('error: ')}")
    # The last line, because libraries may have something to say before.
    answer: Answer = json.loads(done.stdout.splitlines()[-1])
    return answer
