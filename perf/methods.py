"""What the baselines cost at the `shapes` size, as ratios within one run. `python -m perf.methods`.

Functions that are compared run in turn on one thread, so that whatever slows the machine slows all of them. Processor
seconds count, not those on the clock, and of each function the median.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from baselines.u2pl import U2PL
from perf import Row, alternate, show
from rc2l_bench.config import Params, Protocol, load
from rc2l_bench.losses.pixel_losses import cross_entropy
from rc2l_bench.methods.contract import Method, MethodConfig, build, load_config
from rc2l_bench.run.hardware import keep_memory
from rc2l_bench.types import Batch

ROUNDS = 15
CLASSES = 6
PLAIN = {"variant": "plain", "views": {"strong": 0}}


def make_batch(protocol: Protocol, views: int) -> Batch:
    """Blocks in one colour per class, labels that fit."""
    generator = torch.Generator().manual_seed(0)
    height, width = protocol.crop
    labelled, unlabelled = protocol.batch.labelled, protocol.batch.unlabelled
    cells = torch.randint(0, CLASSES, (labelled + unlabelled, height // 8, width // 8), generator=generator)
    label = cells.repeat_interleave(8, 1).repeat_interleave(8, 2)
    image = torch.rand(CLASSES, 3, generator=generator)[label].permute(0, 3, 1, 2).contiguous()
    weak = image[labelled:]
    box = torch.zeros(views, unlabelled, height, width, dtype=torch.bool)
    box[..., height // 4 : 3 * height // 4, width // 4 :] = True
    valid = torch.ones(unlabelled, height, width, dtype=torch.bool)
    strong = weak.expand(views, *weak.shape)
    return Batch(image=image[:labelled], label=label[:labelled], weak=weak, strong=strong, box=box, valid=valid)


def change(config: MethodConfig, changes: Mapping[str, object]) -> MethodConfig:
    """A config in which some values differ, one level deep."""
    data = config.model_dump(mode="json")
    for key, value in changes.items():
        data[key] = {**data[key], **value} if isinstance(value, Mapping) else value
    return type(config).model_validate_json(json.dumps(data))


class Stepper:
    """Training steps of one method on one batch."""

    def __init__(self, name: str, protocol: Protocol, changes: Mapping[str, object] | None = None) -> None:
        torch.manual_seed(0)
        config = change(load_config(name), changes or {})
        self.method: Method = build(name, config, protocol, CLASSES).train()
        self.batch = make_batch(protocol, config.views.strong)
        self.optimiser = torch.optim.AdamW([p for group, _ in self.method.param_groups() for p in group], lr=2e-3)

    def learn(self, loss: Tensor) -> None:
        """Backward pass and update."""
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.method.after_step()

    def __call__(self) -> None:
        """One step."""
        self.learn(torch.stack(list(self.method(self.batch, 0.5).values())).sum())

    def all_labelled(self) -> None:
        """A supervised step on the labelled and the unlabelled images."""
        images = torch.cat([self.batch.image, self.batch.weak])
        self.learn(cross_entropy(self.method.get_submodule("student")(images), self.labels(images)))

    def labels(self, images: Tensor) -> Tensor:
        """Labels for any number of images."""
        return self.batch.label.repeat(2, 1, 1)[: len(images)]

    def label_weak(self) -> None:
        """A pass over the unlabelled images in eval mode, without gradient."""
        student = self.method.get_submodule("student").eval()
        with torch.no_grad():
            student(self.batch.weak)
        student.train()


def cps(protocol: Protocol) -> tuple[float, float]:
    """A step of plain and of CutMix CPS, by supervised steps on as many images."""
    supervised = Stepper("baselines/supervised", protocol)
    functions: dict[str, Callable[[], None]] = {
        "supervised": supervised.all_labelled,
        "plain": Stepper("baselines/cps", protocol, PLAIN),
        "cutmix": Stepper("baselines/cps", protocol),
    }
    seconds = alternate(functions, ROUNDS, time.process_time)
    return seconds["plain"] / seconds["supervised"], seconds["cutmix"] / seconds["supervised"]


def fixmatch(protocol: Protocol) -> float:
    """A step of FixMatch, by the passes that it needs."""
    needed = Stepper("baselines/supervised", protocol)

    def passes() -> None:
        needed.label_weak()
        needed.all_labelled()

    functions: dict[str, Callable[[], None]] = {"passes": passes, "fixmatch": Stepper("baselines/fixmatch", protocol)}
    seconds = alternate(functions, ROUNDS, time.process_time)
    return seconds["fixmatch"] / seconds["passes"]


def u2pl(protocol: Protocol) -> float:
    """The share that the contrastive loss has in a step of U2PL, forward and backward, with every class active."""
    stepper = Stepper("baselines/u2pl", protocol)
    method, batch = stepper.method, stepper.batch
    assert isinstance(method, U2PL)
    for _ in range(20):
        stepper()
    view = method.view(batch, batch.weak)
    size = view.features.shape
    features = torch.randn(size, requires_grad=True)

    def contrastive() -> None:
        method.contrastive(features, view, 0.1).backward()  # type: ignore[no-untyped-call]

    seconds = alternate({"step": stepper, "contrast": contrastive}, ROUNDS, time.process_time)
    assert (method.bank.added > 0).all()
    return seconds["contrast"] / seconds["step"]


def measure() -> list[Row]:
    """The ratios."""
    torch.set_num_threads(1)
    keep_memory()
    protocol = load(Params, Path("params.yaml")).protocol_of("shapes")
    plain, cutmix = cps(protocol)
    return [
        Row("step of cps, plain / supervised step on the same images", plain, 2.15, least=False),
        Row("step of cps, cutmix (labels the unmixed images in a pass of their own) / the same", cutmix),
        Row("step of fixmatch / the passes it needs", fixmatch(protocol), 1.15, least=False),
        Row("contrastive loss of u2pl / its step", u2pl(protocol), 0.20, least=False),
    ]


if __name__ == "__main__":
    show(measure())
