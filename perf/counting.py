"""Counting confusions against torchmetrics, with equal counts."""

from __future__ import annotations

import time

import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from perf import Row, alternate
from rc2l_bench.run.evaluate import count_confusion

CLASSES, HEIGHT, WIDTH, IMAGES = 12, 360, 480, 8
ROUNDS = 15


def measure() -> list[Row]:
    """Seconds of torchmetrics over ours for eight images of 480×360 with 12 classes, on one thread."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randint(CLASSES, (IMAGES, HEIGHT, WIDTH), generator=generator)
    label = torch.randint(CLASSES, (IMAGES, HEIGHT, WIDTH), generator=generator).to(torch.uint8)
    label[torch.rand(label.shape, generator=generator) < 0.05] = 255
    rivals = [MulticlassConfusionMatrix(CLASSES, ignore_index=255, validate_args=False) for _ in range(IMAGES)]

    def ours() -> torch.Tensor:
        return count_confusion(prediction, label, CLASSES)

    def theirs() -> torch.Tensor:
        for rival, guess, truth in zip(rivals, prediction, label, strict=True):
            rival.reset()
            rival.update(guess, truth.long())
        return torch.stack([rival.compute() for rival in rivals])

    assert torch.equal(ours(), theirs()), "the counts differ"
    seconds = alternate({"ours": ours, "theirs": theirs}, ROUNDS, time.process_time)
    return [Row("counting: torchmetrics / ours, 480×360, 12 classes", seconds["theirs"] / seconds["ours"], 3.0)]
