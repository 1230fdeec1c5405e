"""Carries out a cell: connects shards, loader, augmentation, training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from rc2l_bench.data import loader
from rc2l_bench.data.augment import Augmenter
from rc2l_bench.data.shards import Shards
from rc2l_bench.draws import derive
from rc2l_bench.errors import UsageError
from rc2l_bench.methods.contract import Method, build, load_class, load_config
from rc2l_bench.run import artifacts
from rc2l_bench.run.allocations import measure_step
from rc2l_bench.run.cell import RunInputs
from rc2l_bench.run.evaluate import Evaluation, by_size, evaluate, merge, predict_classes
from rc2l_bench.run.hardware import commit, hardware, open_fabric, peak_memory
from rc2l_bench.run.progress import Progress
from rc2l_bench.run.store import Run
from rc2l_bench.run.train import Feed, Trainer
from rc2l_bench.types import Batch

PANELS = 6
"""Validation images that are kept as pictures."""


class Wiring:
    """Connects shards, loader, augmentation and evaluation of one cell in one process."""

    def __init__(self, cell: RunInputs, fabric: Fabric) -> None:
        self.cell = cell
        self.config = load_config(cell.method)
        self.fabric = fabric
        self.share = {"rank": fabric.global_rank, "world": fabric.world_size}
        runtime = cell.params.runtime
        self.loading = {"workers": runtime.workers, "cache_mb": runtime.cache_mb, **self.share}
        self.augmenter = Augmenter(cell.protocol, self.config.views, cell.seed, fabric.device, **self.share)

    def unlabelled_ids(self) -> list[str]:
        """The images that come without labels; none where the method does not look at them."""
        wanted = load_class(self.cell.method).unlabelled and self.cell.protocol.batch.unlabelled > 0
        return list(self.cell.plan["unlabelled"]) if wanted else []

    def images_per_step(self) -> int:
        """Labelled and unlabelled images over all processes."""
        sizes = self.cell.protocol.batch
        return sizes.labelled + (sizes.unlabelled if self.unlabelled_ids() else 0)

    def batches(self, start: int) -> Iterator[tuple[loader.RawBatch, loader.RawBatch | None]]:
        """Labelled and unlabelled images of every step from `start` on."""
        cell, sizes = self.cell, self.cell.protocol.batch
        span = {"seed": cell.seed, "start": start, "stop": cell.protocol.steps, **self.loading}
        labelled = loader.training_batches(
            cell.labelled, list(cell.labelled.ids), batch=sizes.labelled, stream="labelled", **span
        )
        ids = self.unlabelled_ids()
        if not ids:
            return ((raw, None) for raw in labelled)
        world = self.fabric.world_size
        if sizes.unlabelled % (2 * world):
            raise UsageError(
                f"protocol: a batch of {sizes.unlabelled} images cannot be shared by {world} processes in pairs: "
                f"make unlabelled a multiple of {2 * world}"
            )
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

    def train(self, trainer: Trainer, run: Run) -> Evaluation:
        """Trains to the end and shows it; returns the last evaluation of the validation part."""
        cell = self.cell
        title = f"{cell.dataset} {cell.split} {cell.method} seed {cell.seed}"
        steps, images = cell.protocol.steps, self.images_per_step()
        with Progress(title, steps, images, self.fabric.is_global_zero) as progress:
            feed = Feed(
                batches=self.batches,
                augment=self.augment,
                evaluate=lambda trained: self.evaluate(trained, cell.val),
                watch=progress.show,
            )
            return trainer.fit(feed, run)

    def weigh(self, trainer: Trainer) -> dict[str, float]:
        """Peaks of memory, MiB; see `peak_memory` and `measure_step`."""
        peaks = peak_memory(self.fabric.device)
        last = self.cell.protocol.steps - 1
        batch = self.augment(next(iter(self.batches(last))), last)
        return peaks | measure_step(trainer, batch)

    def cost(self, trainer: Trainer, memory: dict[str, float]) -> dict[str, Any]:
        """cost.json; see `artifacts.cost`."""
        device, images = self.fabric.device.type, self.images_per_step()
        return artifacts.cost(trainer.record, images, memory, trainer.method, device, self.fabric.world_size)

    def write(
        self,
        folder: Path,
        trainer: Trainer,
        facts: dict[str, Any],
        cost: dict[str, Any],
        val: Evaluation,
        test: Evaluation | None,
    ) -> None:
        """Writes the files of the run; see `outcome`."""
        method, shards = trainer.method, self.cell.val
        metrics = artifacts.metrics(trainer.record, val, test, list(shards.classes), self.cell.protocol.eval.absent)
        parts = {"val": metrics, "test": metrics["test"]}
        averaged = {part: found["averaged_classes"] for part, found in parts.items() if found}
        artifacts.write_artifacts(
            folder,
            metrics=metrics,
            cost=cost,
            run=facts | {"averaged_classes": averaged},
            record=trainer.record,
            evaluations={"val": val} | ({"test": test} if test else {}),
            net=method.deployed(),
            panels=self.panels(method),
            palette=shards.index.dataset.palette,
        )

    def panels(self, method: Method) -> list[artifacts.Panel]:
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
            found.append(artifacts.Panel(id=shards.ids[position], image=image, truth=truth, prediction=prediction))
        return found


def carry_out(cell: RunInputs, run: Run, provenance: dict[str, Any]) -> None:
    """Trains and evaluates a cell and puts the result into the store.

    Args:
        cell: what to do.
        run: where checkpoints and result go; what is there is continued.
        provenance: of the cell.
    """
    fabric = open_fabric(cell.params.runtime)
    wiring = Wiring(cell, fabric)
    torch.manual_seed(derive(cell.seed, "init"))
    method = build(cell.method, wiring.config, cell.protocol, len(cell.val.classes))
    trainer = Trainer(fabric, method, cell.protocol, cell.params.runtime, cell.seed)
    state = run.load(fabric.device)
    if state is not None:
        trainer.restore(state)
    val = wiring.train(trainer, run)
    test = wiring.evaluate(method, cell.test) if cell.test else None
    cost = wiring.cost(trainer, wiring.weigh(trainer))
    if fabric.is_global_zero:
        facts = provenance | {"scored": method.scored, "hardware": hardware(fabric.device), "commit": commit()}
        run.finish(lambda folder: wiring.write(folder, trainer, facts, cost, val, test))
