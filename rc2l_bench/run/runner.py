"""Carry out a cell: connect shards, loader, augmentation, training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from rc2l_bench.data import loader
from rc2l_bench.data.augment import Augmenter
from rc2l_bench.data.datasets.pool_config import StreamConfig
from rc2l_bench.data.reader import Stream, Windows
from rc2l_bench.data.selection import everything
from rc2l_bench.data.streaming import open_stream
from rc2l_bench.data.training_pool import TrainingPool
from rc2l_bench.draws import derive
from rc2l_bench.errors import UsageError
from rc2l_bench.methods.contract import Method, build, check_config, load_class
from rc2l_bench.readers import reading
from rc2l_bench.run import artifacts
from rc2l_bench.run.allocations import measure_step
from rc2l_bench.run.cell import RunInputs
from rc2l_bench.run.evaluate import Evaluation, predict_classes
from rc2l_bench.run.hardware import commit, count_workers, hardware, open_fabric, peak_memory
from rc2l_bench.run.levers import uncompiled
from rc2l_bench.run.prefetch import prefetch
from rc2l_bench.run.progress import Progress
from rc2l_bench.run.record import Record
from rc2l_bench.run.scoring import Scorer
from rc2l_bench.run.signals import Preemption
from rc2l_bench.run.store import Run
from rc2l_bench.run.trackers import Trackers, head_of
from rc2l_bench.run.train import Feed, Trainer
from rc2l_bench.types import Batch

PANELS = 6
"""Validation images that are kept as pictures."""


class Wiring:
    """Connections between shards, loader, augmentation and evaluation of one cell, in one process."""

    def __init__(self, cell: RunInputs, fabric: Fabric) -> None:
        self.cell = cell
        # Of what the cell has read, not of the file, which may have been edited since the run was named.
        self.config = check_config(cell.method, cell.config)
        self.fabric = fabric
        self.share = {"rank": fabric.global_rank, "world": fabric.world_size}
        runtime = cell.params.runtime
        self.loading = {"workers": count_workers(runtime, fabric.device), "cache_mb": runtime.cache_mb}
        self.augmenter = Augmenter(cell.protocol, self.config.views, cell.seed, fabric.device, **self.share)
        self.scorer = Scorer(fabric=fabric, protocol=cell.protocol, **self.loading)

    @cached_property
    def unlabelled(self) -> Stream | StreamConfig | None:
        """Choose the images that come without labels; None where there are none, or the method looks at none.

        No dummy batches: a method that looks at labelled images alone must not pay for loading others.
        """
        size = self.cell.protocol.batch.unlabelled
        if not load_class(self.cell.method).unlabelled or size == 0:
            return None
        if self.cell.stream:
            return self.cell.stream
        pool: TrainingPool = self.cell.unlabelled
        if not len(pool.selection):
            return None
        return Stream(name="unlabelled", shards=pool.shards, selection=pool.selection, batch=size)

    @property
    def room(self) -> int:
        """Bytes of copies of files far away that may be kept."""
        return round(self.cell.params.shard.mirror_gb * 1e9)

    def fetch_pool(self) -> None:
        """Copy what the training will read from far away, as far as there is room for it."""
        if isinstance(self.unlabelled, Stream) and self.cell.extra:
            from rc2l_bench.data.mirror import mirror_all  # only where the network may be wanted

            mirror_all([shards.index for shards in self.cell.extra], self.room)

    def images_per_step(self) -> int:
        """Count labelled and unlabelled images of a step over all processes."""
        sizes = self.cell.protocol.batch
        return sizes.labelled + (sizes.unlabelled if self.unlabelled else 0)

    def batches(self, start: int) -> Iterator[Windows | Batch]:
        """Load every step from `start` on; on an accelerator the next batch is made while a step runs.

        Raises:
            UsageError: the processes cannot share a batch evenly.
        """
        loaded, device = self.load(start), self.fabric.device
        # Not on the CPU: a thread would take its core from the step, and loader processes augment there.
        return loaded if device.type == "cpu" else prefetch(loaded, self.augment, start, device)

    def load(self, start: int) -> Iterator[Windows | Batch]:
        """Load labelled and unlabelled images of every step from `start` on; this process's rows of each batch.

        Raises:
            UsageError: the processes cannot share a batch evenly.
        """
        cell, sizes, world = self.cell, self.cell.protocol.batch, self.fabric.world_size
        chosen = everything(len(cell.labelled))
        labelled = Stream(name="labelled", shards=cell.labelled, selection=chosen, batch=sizes.labelled)
        # CutMix partners are neighbours in a batch, so a pair must not be torn apart.
        if self.unlabelled is not None and sizes.unlabelled % (2 * world):
            raise UsageError(
                f"protocol: a batch of {sizes.unlabelled} images cannot be shared by {world} processes in pairs: "
                f"make unlabelled a multiple of {2 * world}"
            )
        geometry, stop = self.augmenter.geometry, cell.protocol.steps
        if isinstance(self.unlabelled, StreamConfig):
            known = frozenset(digest for shards in cell.shown for digest in shards.table.hashes())
            tars = open_stream(self.unlabelled, geometry, start, self.room, known)
            share = sizes.unlabelled // world
            return loader.streamed_batches(labelled, tars, share, geometry, start=start, stop=stop, **self.loading)
        # On the CPU the loader processes augment too; an accelerator does it better itself.
        finish = self.finish if self.fabric.device.type == "cpu" else None
        streams = [labelled] if self.unlabelled is None else [labelled, self.unlabelled]
        return loader.training_batches(streams, geometry, start=start, stop=stop, finish=finish, **self.loading)

    def finish(self, windows: Windows, step: int) -> Batch:
        """Make the batch of a step; see `Augmenter`."""
        labelled, *unlabelled = windows
        return self.augmenter(labelled, unlabelled[0] if unlabelled else [], step)

    def augment(self, loaded: Windows | Batch, step: int) -> Batch:
        """Make the batch of a step, unless a loader process has made it."""
        return loaded if isinstance(loaded, Batch) else self.finish(loaded, step)

    @property
    def title(self) -> str:
        """What is trained, in a few words."""
        return f"{self.cell.dataset} {self.cell.split} {self.cell.method} seed {self.cell.seed}"

    def train(self, trainer: Trainer, run: Run, trackers: Trackers) -> Evaluation:
        """Train to the end and show progress; return the last evaluation of the validation part."""
        steps, images = self.cell.protocol.steps, self.images_per_step()
        with Progress(self.title, steps, images, run.folder if self.fabric.is_global_zero else None) as progress:

            def watch(record: Record) -> None:
                progress.show(record)
                trackers.show(record)

            feed = Feed(
                batches=self.batches,
                augment=self.augment,
                # How sure the network is interests of the result alone, which is the last evaluation.
                evaluate=lambda trained: self.scorer.evaluate(
                    trained, self.cell.val, calibrate=trainer.record.step == steps
                ),
                watch=watch,
                audit=self.audit,
            )
            trackers.resume(trainer.record)
            return trainer.fit(feed, run)

    @property
    def audit(self) -> Callable[[Method], float] | None:
        """What scores the method's pseudo-labels; None where it makes none, or where nothing is known of the truth."""
        audited = self.cell.audited
        if self.unlabelled is None or audited is None:
            return None
        return lambda trained: self.scorer.audit(trained, audited)

    def open_trackers(self, provenance: dict[str, Any]) -> Trackers:
        """Prepare the trackers that `runtime.trackers` names; the first process tells them."""
        names = self.cell.params.runtime.trackers if self.fabric.is_global_zero else []
        return Trackers(names, head_of(provenance, self.title))

    def weigh(self, trainer: Trainer) -> dict[str, float]:
        """Measure peaks of memory, MiB; all processes have to do so together.

        See `peak_memory` and `measure_step`.
        """
        # In this order: the copies that `measure_step` makes would raise the resident peak.
        peaks = peak_memory(self.fabric.device)
        # Loaded anew, because the loop keeps no batch.
        last = self.cell.protocol.steps - 1
        batch = self.augment(next(iter(self.batches(last))), last)
        return peaks | measure_step(trainer, batch)

    def cost(self, trainer: Trainer, memory: dict[str, float]) -> dict[str, Any]:
        """Assemble cost.json; see `artifacts.cost`."""
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
        corrupted: dict[str, float],
    ) -> None:
        """Write the files of the run; see `artifacts.write_artifacts`."""
        method, shards, absent = trainer.method, self.cell.val, self.cell.protocol.eval.absent
        metrics = artifacts.metrics(trainer.record, val, test, list(shards.classes), absent, corrupted)
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
        """Make pictures of a few evenly spaced validation images: the same ones for every method."""
        shards, protocol = self.cell.val, self.cell.protocol
        method.eval()
        found = []
        for position in np.linspace(0, len(shards) - 1, min(PANELS, len(shards))).astype(int):
            # Straight from the shards: for six images the loader's workers would take longer to start.
            encoded = shards.read([position])[0]
            image = encoded.decode_image()
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
            classes = predict_classes(method.predict, pixels, protocol.eval, protocol.image_scale, self.fabric.device)
            prediction = classes[0].to(torch.uint8).cpu().numpy()
            truth = encoded.decode_mask()
            found.append(artifacts.Panel(id=shards.ids[position], image=image, truth=truth, prediction=prediction))
        return found


def carry_out(cell: RunInputs, run: Run, provenance: dict[str, Any], preemption: Preemption) -> None:
    """Train and evaluate a cell and put the result into the store.

    In a training of several processes every one of them runs this; the first one writes.

    Args:
        cell: what to do.
        run: where checkpoints and result go; what is there is continued.
        provenance: of the cell, as it was when the run was named.
        preemption: tells that this process was asked to stop.

    Raises:
        UsageError: the machine does not have what params.yaml asks for, or the batch cannot be shared.
        DivergedError: a loss is no longer finite.
        BenchError: a shard or a checkpoint is damaged.
        PreemptedError: asked to stop; the same call continues.
    """
    fabric = open_fabric(cell.params.runtime)
    wiring = Wiring(cell, fabric)
    wiring.fetch_pool()
    # Right before the networks are made, so that nothing that draws before it moves the initial weights; all processes
    # start from the same ones.
    torch.manual_seed(derive(cell.seed, "init"))
    method = build(cell.method, wiring.config, cell.protocol, len(cell.val.classes))
    trainer = Trainer(fabric, method, cell.protocol, cell.params.runtime, cell.seed, preemption)
    state = run.load(fabric.device)
    if state is not None:
        with reading(f"{run.folder}: its newest checkpoint", "not of this suite, remove it"):
            trainer.restore(state)
    with wiring.open_trackers(provenance) as trackers:
        val = wiring.train(trainer, run, trackers)
        levers = cell.params.runtime.levers
        with uncompiled(levers):  # as every evaluation of val
            test = wiring.scorer.evaluate(method, cell.test, calibrate=True) if cell.test else None
            corrupted = wiring.scorer.score_corrupted(method, cell.val, cell.corruptions)
        # Not inside the `if`: the processes take the measured step together.
        cost = wiring.cost(trainer, wiring.weigh(trainer))
        if fabric.is_global_zero:
            # Added after the run was named: none of these makes a number.
            facts = provenance | {
                "scored": method.scored, "network": artifacts.network_of(method), "hardware": hardware(fabric.device),
                "commit": commit(),
            }  # fmt: skip
            with uncompiled(levers):  # it draws predictions
                run.finish(lambda folder: wiring.write(folder, trainer, facts, cost, val, test, corrupted))
            # After the result is safe: trackers may take their time.
            trackers.finish(run.result)
