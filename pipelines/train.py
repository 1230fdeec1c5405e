"""Stage `train`: one cell, trained and evaluated, unless its run is in the store already."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from lightning_fabric import Fabric
from torch import Tensor

from rc2l_bench import loader, outcome, store
from rc2l_bench.augment import Augmenter
from rc2l_bench.config import Params, Protocol, load
from rc2l_bench.console import guarded
from rc2l_bench.draws import derive
from rc2l_bench.errors import BenchError
from rc2l_bench.evaluate import Evaluation, by_size, evaluate, merge, predict_classes
from rc2l_bench.machine import commit, hardware, is_first_process, open_fabric, peak_memory, versions
from rc2l_bench.method import Method, MethodConfig, build, load_class, load_config
from rc2l_bench.nets import find_weights
from rc2l_bench.progress import Progress
from rc2l_bench.shards import Shards
from rc2l_bench.store import Run
from rc2l_bench.train import Feed, Trainer
from rc2l_bench.types import Batch

STORE = Path(".rc2l/runs")
PANELS = 6


@dataclass(frozen=True, kw_only=True)
class Cell:
    """All that the numbers of a run depend on, but for the code."""

    dataset: str
    split: str
    method: str
    seed: int
    params: Params
    config: MethodConfig
    plan: dict[str, Any]
    pool: Shards
    labelled: Shards
    val: Shards
    test: Shards | None

    @property
    def protocol(self) -> Protocol:
        """The protocol of the cell's data set."""
        return self.params.protocol_of(self.dataset)

    def unlabelled_ids(self) -> list[str]:
        """The images that come without labels; none where the method does not look at them."""
        wanted = load_class(self.method).unlabelled and self.protocol.batch.unlabelled > 0
        return list(self.plan["unlabelled"]) if wanted else []

    def provenance(self) -> dict[str, Any]:
        """run.json: the fingerprint, every part of it, and on what the run was carried out."""
        weights = find_weights(self.protocol.net)
        parts = {
            "cell": {"dataset": self.dataset, "split": self.split, "method": self.method, "seed": self.seed},
            "split": {
                "id": self.plan["id"],
                "labelled": len(self.plan["labelled"]),
                "unlabelled": len(self.plan["unlabelled"]),
            },
            "shards": {
                "pool": self.pool.digest,
                "labelled": self.labelled.digest,
                "val": self.val.digest,
                "test": self.test.digest if self.test else None,
            },
            "dataset": self.val.index.dataset.model_dump(mode="json"),
            "protocol": self.protocol.model_dump(mode="json"),
            "weights": store.digest_file(weights) if weights else self.protocol.net.weights,
            "method_config": self.config.model_dump(mode="json"),
            "runtime": self.params.runtime.model_dump(mode="json", exclude={"workers", "cache_mb", "checkpoint_every"}),
            "source": store.digest_sources(self.method),
            "versions": versions(),
        }
        return {"fingerprint": store.fingerprint(parts), **parts}


def open_cell(dataset: str, split: str, method: str, seed: int, shards: Path, plan_file: Path) -> Cell:
    """Reads everything that a cell needs."""
    params = load(Params, Path("params.yaml"))
    plan = json.loads(plan_file.read_text())
    test = Shards(shards / "test")
    cell = Cell(
        dataset=dataset, split=split, method=method, seed=seed, params=params, config=load_config(method), plan=plan,
        pool=Shards(shards / "pool"), labelled=Shards(shards / "labelled" / split), val=Shards(shards / "val"),
        test=test if test.labelled else None,
    )  # fmt: skip
    if cell.labelled.index.split_id != plan["id"]:
        raise BenchError(f"{cell.labelled.folder}: was made for another split than {plan_file}: run the stages again")
    if not cell.val.labelled:
        raise BenchError(f"{cell.val.folder}: validation needs images with masks, there are none")
    return cell


class Wiring:
    """Connects shards, loader, augmentation and evaluation of one cell in one process."""

    def __init__(self, cell: Cell, fabric: Fabric) -> None:
        self.cell = cell
        self.fabric = fabric
        self.place = {"rank": fabric.global_rank, "world": fabric.world_size}
        runtime = cell.params.runtime
        self.loading = {"workers": runtime.workers, "cache_mb": runtime.cache_mb, **self.place}
        self.augmenter = Augmenter(cell.protocol, cell.config.views, cell.seed, fabric.device, **self.place)

    def batches(self, start: int) -> Iterator[tuple[loader.RawBatch, loader.RawBatch | None]]:
        """Labelled and unlabelled images of every step from `start` on."""
        cell, sizes = self.cell, self.cell.protocol.batch
        span = {"seed": cell.seed, "start": start, "stop": cell.protocol.steps, **self.loading}
        labelled = loader.training_batches(
            cell.labelled, list(cell.labelled.ids), batch=sizes.labelled, stream="labelled", **span
        )
        ids = cell.unlabelled_ids()
        if not ids:
            return ((raw, None) for raw in labelled)
        unlabelled = loader.training_batches(cell.pool, ids, batch=sizes.unlabelled, stream="unlabelled", **span)
        return zip(labelled, unlabelled, strict=True)

    def augment(self, raw: tuple[loader.RawBatch, loader.RawBatch | None], step: int) -> Batch:
        """See `Augmenter`."""
        labelled, unlabelled = raw
        assert labelled.label is not None
        pictures: tuple[Tensor, Tensor] | None = (unlabelled.image, unlabelled.size) if unlabelled else None
        return self.augmenter((labelled.image, labelled.label, labelled.size), pictures, step)

    def evaluate(self, method: Method, shards: Shards) -> Evaluation:
        """Scores the method on every image once, whatever the number of processes."""
        spec = self.cell.protocol.eval
        raws = loader.evaluation_batches(shards, batch=spec.batch, **self.loading)
        images = (
            group for raw in raws if raw.label is not None for group in by_size(raw.ids, raw.image, raw.label, raw.size)
        )
        method.eval()
        mine = evaluate(
            method.predict, images, spec, image_scale=self.cell.protocol.image_scale,
            num_classes=len(shards.classes), device=self.fabric.device,
        )  # fmt: skip
        method.train()
        if self.fabric.world_size == 1:
            return mine
        parts: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(parts, mine)
        return merge(parts)

    def panels(self, method: Method) -> list[outcome.Panel]:
        """Pictures of a few evenly spaced validation images."""
        shards, protocol = self.cell.val, self.cell.protocol
        method.eval()
        found = []
        for position in np.linspace(0, len(shards) - 1, min(PANELS, len(shards))).astype(int):
            image = shards.read_image(position)
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
            classes = predict_classes(method.predict, pixels, protocol.eval, protocol.image_scale, self.fabric.device)
            prediction = classes[0].to(torch.uint8).cpu().numpy()
            truth = shards.read_mask(position)
            found.append(outcome.Panel(id=shards.ids[position], image=image, truth=truth, prediction=prediction))
        return found


def carry_out(cell: Cell, run: Run, provenance: dict[str, Any], fabric: Fabric) -> None:
    """Trains, evaluates, and puts the result into the store."""
    wiring = Wiring(cell, fabric)
    torch.manual_seed(derive(cell.seed, "init"))
    classes = list(cell.val.classes)
    method = build(cell.method, cell.config, cell.protocol, len(classes))
    trainer = Trainer(fabric, method, cell.protocol, cell.params.runtime, cell.seed)
    state = run.load(fabric.device)
    if state is not None:
        trainer.restore(state)
    images = cell.protocol.batch.labelled + (cell.protocol.batch.unlabelled if cell.unlabelled_ids() else 0)
    with Progress(
        f"{cell.dataset} {cell.split} {cell.method} seed {cell.seed}",
        cell.protocol.steps,
        images,
        fabric.is_global_zero,
    ) as progress:
        feed = Feed(
            batches=wiring.batches,
            augment=wiring.augment,
            evaluate=lambda trained: wiring.evaluate(trained, cell.val),
            watch=progress.show,
        )
        val = trainer.fit(feed, run)
    test = wiring.evaluate(method, cell.test) if cell.test else None
    if not fabric.is_global_zero:
        return
    evaluations = {"val": val} | ({"test": test} if test else {})
    run.finish(
        lambda folder: outcome.write_outcome(
            folder,
            metrics=outcome.metrics(trainer.record, val, test, classes),
            cost=outcome.cost(trainer.record, images, peak_memory(fabric.device), method, fabric.device.type),
            run=provenance | {"hardware": hardware(fabric.device), "commit": commit()},
            record=trainer.record,
            evaluations=evaluations,
            net=method.deployed(),
            panels=wiring.panels(method),
            palette=cell.val.index.dataset.palette,
        )
    )


@guarded
def main(dataset: str, split: str, method: str, seed: int, shards: Path, plan: Path, out: Path) -> None:
    """Trains one cell into a folder."""
    cell = open_cell(dataset, split, method, seed, shards, plan)
    provenance = cell.provenance()
    run = Run(STORE, provenance["fingerprint"])
    with run.lock(owner=is_first_process()):
        if not run.complete:
            carry_out(cell, run, provenance, open_fabric(cell.params.runtime))
        if is_first_process():
            run.materialise(out)


if __name__ == "__main__":
    typer.run(main)
