"""What RegionNet and the four losses of RC²L cost. `python -m perf.region_losses`.

Times are taken at the `shapes` size. Memory is counted at paper scale, on fake tensors: they have sizes and no values,
so that any machine can do it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from perf import Row, alternate, show
from perf.methods import Stepper
from rc2l_bench.config import Params, Protocol, load
from rc2l_bench.cost.worst_case import worst_case
from rc2l_bench.data.datasets.scenes import generate
from rc2l_bench.losses.matching import Matching
from rc2l_bench.losses.regions import Regions, label_regions
from rc2l_bench.methods.contract import build, load_config
from rc2l_bench.methods.rc2l import RC2L
from rc2l_bench.nets.region_net import Prediction, RegionNet

ROUNDS = 25
AT_ONCE = {"warm_up": 0.0, "ramp": 0.0, "threshold": 0.0}
IMAGES, CROP, QUERIES, CLASSES, DIM = 8, 513, 100, 21, 256
PAPER_REGION = {"queries": QUERIES, "dim": DIM, "layers": 6, "heads": 8, "feedforward": 2048}


def on_scenes(name: str, protocol: Protocol) -> Stepper:
    """Steps of a method on labelled images of `shapes`, which hold as many classes as in training."""
    stepper = Stepper(name, protocol, AT_ONCE if name == "rc2l_bench/methods/rc2l" else None)
    image, label = generate([f"train_{index:04d}" for index in range(len(stepper.batch.image))])
    colours = torch.from_numpy(image).permute(0, 3, 1, 2) / 255
    stepper.batch = replace(stepper.batch, image=colours, label=torch.from_numpy(label).long())
    return stepper


def of(terms: dict[str, Callable[[], Tensor]]) -> Tensor:
    """The sum of the four losses."""
    return torch.stack([term() for name, term in terms.items() if name != "mask"]).sum()


def leaves(seen: Prediction) -> Prediction:
    """The prediction, as if the network ended there."""
    logits, embedding, features = (x.detach().requires_grad_() for x in (seen.logits, seen.embedding, seen.features))
    return replace(seen, logits=logits, embedding=embedding, features=features)


def measure_step(protocol: Protocol) -> float:
    """A supervised step of RegionNet by one of PixelNet."""
    names = ("baselines/supervised", "baselines/supervised_region")
    pixel, region = alternate({name: on_scenes(name, protocol) for name in names}, ROUNDS, time.process_time).values()
    return region / pixel


def measure_share(protocol: Protocol) -> float:
    """The share of the four losses in a step: matching, forward, and backward to what the network put out."""
    stepper = on_scenes("rc2l_bench/methods/rc2l", protocol)
    method, batch = stepper.method, stepper.batch
    assert isinstance(method, RC2L)
    with torch.no_grad():
        seen = method.student.segment(batch.image)
    regions = label_regions(batch.label, method.num_classes, "excluded").shrink(seen.lattice, seen.features.shape[-2:])

    def losses() -> None:
        student = leaves(seen)
        match = Matching((regions, method.costs(seen, regions))).solve(0)
        of(method.terms(student, student.mask(), match)).backward()  # type: ignore[no-untyped-call]

    seconds = alternate({"step": stepper, "losses": losses}, ROUNDS, time.process_time)
    return seconds["losses"] / seconds["step"]


def peak(function: Callable[[], object], known: Iterable[nn.Module | Tensor]) -> int:
    """The most bytes that are alive at a time while a function runs, beyond what is known before."""
    tracker = MemTracker()
    tracker.track_external(*known)
    before = sum(each["Total"] for each in tracker.get_tracker_snapshot("current").values())
    with tracker:
        keep = function()  # noqa: F841 - what it returns counts, too
    return sum(each["Total"] for each in tracker.get_tracker_snapshot("peak").values()) - before


def fake_regions(seen: Prediction, regions: int) -> Regions:
    """As many regions per image."""
    size = seen.features.shape[-2:]
    return Regions(
        index=torch.empty(IMAGES, *size, dtype=torch.int64),
        valid=torch.empty(IMAGES, *size, dtype=torch.bool),
        present=torch.empty(IMAGES, regions, dtype=torch.bool),
        label=torch.empty(IMAGES, regions, dtype=torch.int64),
        probability=torch.empty(IMAGES, regions, CLASSES),
    )


def measure_memory(protocol: Protocol, regions: int, backward: bool) -> float:
    """The peak of the four losses, matching costs included, by the peak of the forward pass of the student."""
    method = build("rc2l_bench/methods/rc2l", load_config("rc2l_bench/methods/rc2l"), protocol, CLASSES)
    assert isinstance(method, RC2L)
    region = protocol.net.region.model_copy(update=PAPER_REGION)
    paper = protocol.net.model_copy(update={"backbone": "resnet50", "output_stride": 32, "region": region})
    with FakeTensorMode():
        net = RegionNet(paper, CLASSES)
        image = torch.empty(IMAGES, 3, CROP, CROP)
        forward = peak(lambda: net.segment(image), [net, image])
        student = leaves(net.segment(image))
        student = replace(student, logits=student.logits[:, -1:], embedding=student.embedding[:, -1:])
        found = fake_regions(student, regions)

        def losses() -> Tensor:
            match = Matching((found, method.costs(student, found))).solve(0)
            loss = of(method.terms(student, student.mask(), match))
            if backward:
                loss.backward()  # type: ignore[no-untyped-call]
            return loss

        known = [student.logits, student.embedding, student.features]
        known += [found.index, found.valid, found.present, found.label, found.probability]
        with worst_case():
            return peak(losses, known) / forward


def measure() -> list[Row]:
    """The ratios."""
    torch.set_num_threads(1)
    protocol = load(Params, Path("params.yaml")).protocol_of("shapes")
    scale = f"{IMAGES} × {CROP}², {QUERIES} queries"
    where = f"of the forward pass of a ResNet-50 RegionNet, {scale}"
    return [
        Row("supervised step of RegionNet / of PixelNet, shapes", measure_step(protocol), 1.6, least=False),
        Row("share of the four losses in a step of rc2l, shapes", measure_share(protocol), 0.15, least=False),
        Row(
            f"peak memory of the four losses, {CLASSES} regions, {where}",
            measure_memory(protocol, CLASSES, False),
            0.08,
            least=False,
        ),
        Row(f"the same, {QUERIES} regions", measure_memory(protocol, QUERIES, False), 0.15, least=False),
        Row(
            f"the same, {CLASSES} regions, with the backward pass to the network's outputs",
            measure_memory(protocol, CLASSES, True),
        ),
    ]


if __name__ == "__main__":
    show(measure())
