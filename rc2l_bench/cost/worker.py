"""Serve one request in a fresh process of `cost`: read it from standard input, answer in one line of JSON."""

from __future__ import annotations

import itertools
import json
import resource
import sys
import time
from typing import Any

import numpy as np
import torch

from rc2l_bench.config import Levers, Protocol, Runtime
from rc2l_bench.console import one_line_errors
from rc2l_bench.cost.symbolic import estimate_step, make_batch
from rc2l_bench.data.augment import Augmenter
from rc2l_bench.data.geometry import Window, cut
from rc2l_bench.data.reader import Decoded
from rc2l_bench.methods.contract import Method, MethodConfig, build, load_config
from rc2l_bench.run.allocations import measure_step
from rc2l_bench.run.artifacts import cost
from rc2l_bench.run.evaluate import Evaluation
from rc2l_bench.run.hardware import open_fabric, peak_memory
from rc2l_bench.run.record import Record
from rc2l_bench.run.train import Feed, Trainer
from rc2l_bench.types import Batch

WARM_UP = 3
"""Steps that are taken but not counted: the first ones fill caches and make the optimiser's state."""
Images = dict[str, list[Decoded]]
"""By stream."""
THRESHOLDS = {"threshold", "probability"}
"""Names of a method's numbers below whose value a prediction is left out as unsure."""


def change(config: MethodConfig, changes: dict[str, Any]) -> MethodConfig:
    """Return a config in which some values differ; a mapping inside is changed, not replaced.

    Raises:
        ValidationError: a key or a value is wrong.
    """
    return type(config).model_validate_json(json.dumps(_merged(config.model_dump(mode="json"), changes)))


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in changes.items():
        out[key] = _merged(out[key], value) if isinstance(value, dict) else value
    return out


def trust(config: MethodConfig) -> MethodConfig:
    """Return a config whose thresholds are 0: an untrained network is sure of nothing and would do little work."""

    # `views` is left alone: the probability there is that of CutMix.
    def lower(data: dict[str, Any]) -> dict[str, Any]:
        inner = {key: lower(value) for key, value in data.items() if isinstance(value, dict) and key != "views"}
        return inner | dict.fromkeys(THRESHOLDS & data.keys(), 0.0)

    return change(config, lower(config.model_dump(mode="json")))


class Workload:
    """The last steps of a training on made-up images, in the loop of real trainings."""

    def __init__(self, name: str, protocol: Protocol, runtime: Runtime, num_classes: int, steps: int) -> None:
        """Set up a method with fresh networks.

        Args:
            name: id of the method.
            protocol: networks, crop, batch, optimiser.
            runtime: device, precision, threads.
            num_classes: K.
            steps: to time.
        """
        # One evaluation, at the very end, no checkpoint and no row of the history before: the loop does steps only.
        budget = max(protocol.steps, steps + WARM_UP)
        scoring = protocol.eval.model_copy(update={"evaluations": 1})
        self.protocol = protocol.model_copy(update={"steps": budget, "eval": scoring})
        self.runtime = runtime.model_copy(
            update={"devices": 1, "checkpoint_every": budget, "checkpoint_minutes": 0, "log_every": budget}
        )
        self.fabric, self.num_classes, self.steps = open_fabric(self.runtime), num_classes, steps
        # Fixed, and the same in every round: nothing that depends on weights may differ between rounds.
        torch.manual_seed(0)
        config = trust(load_config(name))
        self.method: Method = build(name, config, self.protocol, num_classes)
        self.augmenter = Augmenter(self.protocol, config.views, 0, self.fabric.device)
        self.trainer = Trainer(self.fabric, self.method, self.protocol, self.runtime, seed=0)

    def load(self) -> Images:
        """Make images as large as the crop, before augmentation; every labelled one has every class."""
        made = make_batch(self.protocol, 0, self.method.unlabelled, self.num_classes)
        # Bytes, as shards give them: their conversion is a part of the augmentation that is timed.
        image, weak = ((x * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy() for x in (made.image, made.weak))
        return {
            "labelled": list(zip(image, made.label.to(torch.uint8).numpy(), strict=True)),
            "unlabelled": [(one, None) for one in weak],
        }

    def augment(self, images: Images, step: int) -> Batch:
        """Cut windows out of the images, as loading does, and make a batch of them."""
        labelled, unlabelled = (self._windows(stream, found, step) for stream, found in images.items())
        return self.augmenter(labelled, unlabelled, step)

    def _windows(self, stream: str, images: list[Decoded], step: int) -> list[Window]:
        size = torch.tensor(self.protocol.crop).expand(len(images), 2)
        frames = self.augmenter.geometry.frames(stream, step, size)
        return [cut("made-up", frame, *image) for frame, image in zip(frames, images, strict=True)]

    def score(self, _: Method) -> Evaluation:
        """Return an evaluation without images, which the loop asks for at its end."""
        return Evaluation(ids=[], confusion=np.eye(self.num_classes, dtype=np.int32)[None])

    def watch(self, record: Record) -> None:
        """Forget the steps of the warm-up, once they are over."""
        if record.step == self.protocol.steps - self.steps:
            self.trainer.settle()
            record.step_seconds.clear()
            record.part_seconds.update(dict.fromkeys(record.part_seconds, 0.0))

    def carry_out(self) -> dict[str, Any]:
        """Take the steps; return what cost.json holds."""
        raw = self.load()
        # The end of the budget, past every warm-up, so that all losses are on.
        record = self.trainer.record
        record.step = record.looked = self.protocol.steps - self.steps - WARM_UP
        feed = Feed(
            # One batch again and again: loading is the same for all methods and would only blur the comparison.
            batches=lambda _: itertools.repeat(raw),
            augment=self.augment,
            evaluate=self.score,
            watch=self.watch,
        )
        self.trainer.fit(feed, run=None)
        # Before `measure_step`, whose copies would raise the resident peak.
        peaks = peak_memory(self.fabric.device)
        peaks |= measure_step(self.trainer, self.augment(raw, self.protocol.steps - 1))
        images = self.protocol.batch.labelled + (self.protocol.batch.unlabelled if self.method.unlabelled else 0)
        return cost(self.trainer.record, images, peaks, self.method, self.fabric.device.type, 1)


def estimate(asked: dict[str, Any], protocol: Protocol) -> dict[str, Any]:
    """Answer a request for an estimate."""
    begin = time.perf_counter()
    torch.set_num_threads(1)  # nothing is computed but initial weights
    config = change(load_config(asked["method"]), asked["changes"])
    found = estimate_step(
        asked["method"], config, protocol, asked["classes"], asked["most_regions"], Levers(**asked["levers"])
    )
    unit = 1 if sys.platform == "darwin" else 1024
    real = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return {"memory": found.memory, "flops": found.flops, "seconds": time.perf_counter() - begin, "real_mb": real}


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Answer a request of `measurement`."""
    # Through JSON, because strict models take a list for a tuple there and nowhere else.
    protocol = Protocol.model_validate_json(json.dumps(asked["protocol"]))
    if asked["kind"] == "estimate":
        return estimate(asked, protocol)
    runtime = Runtime.model_validate_json(json.dumps(asked["runtime"]))
    return Workload(asked["method"], protocol, runtime, asked["classes"], asked["steps"]).carry_out()


if __name__ == "__main__":
    with one_line_errors():
        print(json.dumps(answer(json.load(sys.stdin))))  # noqa: T201 - the answer
