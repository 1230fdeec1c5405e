"""Score a method on the images of a part: as they are, or spoilt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning_fabric import Fabric

from rc2l_bench.config import Corruption, Protocol
from rc2l_bench.data import loader
from rc2l_bench.data.shards import Shards
from rc2l_bench.methods.contract import Method
from rc2l_bench.metrics import areas_of, mean_iou
from rc2l_bench.run.corruptions import corrupt
from rc2l_bench.run.evaluate import Evaluation, Images, Predict, by_size, evaluate, merge


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """Scores parts under one protocol; in a training of several processes each takes its share of the images.

    Attributes:
        fabric: device and processes.
        protocol: of the evaluation.
        workers: loader processes.
        cache_mb: decoded images kept in memory per loader process, MiB.
    """

    fabric: Fabric
    protocol: Protocol
    workers: int
    cache_mb: int

    def _load(self, shards: Shards) -> Iterator[Images]:
        """Load this process's share of a part; images of one size at a time."""
        raws = loader.evaluation_batches(
            shards, batch=self.protocol.eval.batch, workers=self.workers, cache_mb=self.cache_mb,
            rank=self.fabric.global_rank, world=self.fabric.world_size,
        )  # fmt: skip
        for raw in raws:
            if raw.label is not None:
                yield from by_size(raw.ids, raw.image, raw.label, raw.size)

    def _spoil(self, batches: Iterator[Images], name: Corruption) -> Iterator[Images]:
        for images in batches:
            yield replace(images, image=corrupt(images.image, images.ids, name, self.fabric.device))

    def evaluate(
        self,
        method: Method,
        shards: Shards,
        *,
        predict: Predict | None = None,
        calibrate: bool = False,
        corruption: Corruption | None = None,
    ) -> Evaluation:
        """Score the method on every image of a part once, whatever the number of processes.

        Args:
            method: the bare one.
            shards: of the part.
            predict: makes class logits of images; None = the method's.
            calibrate: count confidences, too.
            corruption: what is done to the images before; None = nothing.

        Returns:
            Counts of all images, in every process.
        """
        images = self._load(shards)
        method.eval()
        # The bare method: the wrapped one would compute in the training's precision, and DDP would wait for processes
        # that have a batch less.
        mine = evaluate(
            predict or method.predict, self._spoil(images, corruption) if corruption else images, self.protocol.eval,
            image_scale=self.protocol.image_scale, num_classes=len(shards.classes), device=self.fabric.device,
            calibrate=calibrate,
        )  # fmt: skip
        method.train()
        if self.fabric.world_size == 1:
            return mine
        # As objects, because processes have different numbers of images; counts are small beside the images.
        parts: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(parts, mine)
        return merge(parts)

    def audit(self, method: Method, shards: Shards) -> float:
        """Compute the mIoU of the method's pseudo-labels on images whose masks it never sees.

        They are those of `Method.pseudo_logits` on whole images, under the protocol of the evaluation: without the
        training's crops, and without its threshold, which leaves the doubtful pixels out.

        Args:
            method: the bare one.
            shards: of the audited images.

        Returns:
            In [0, 1]; nan where no pixel has a label.
        """
        return self._miou(self.evaluate(method, shards, predict=method.pseudo_logits))

    def _miou(self, found: Evaluation) -> float:
        return float(mean_iou(areas_of(found.confusion.sum(0, dtype="int64")), self.protocol.eval.absent))

    def score_corrupted(self, method: Method, shards: Shards, names: Sequence[Corruption]) -> dict[str, float]:
        """Compute the mIoU of a part under every corruption; nan where no pixel has a label."""
        return {name: self._miou(self.evaluate(method, shards, corruption=name)) for name in names}
