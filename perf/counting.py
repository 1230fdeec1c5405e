"""Counting confusions, and how sure predictions are, against torchmetrics' confusions alone, with equal counts."""

from __future__ import annotations

import time

import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from perf import Row, alternate
from rc2l_bench.run.calibration import count_calibration, count_sure, find_sure
from rc2l_bench.run.evaluate import count_confusion

CLASSES, HEIGHT, WIDTH, IMAGES = 12, 360, 480, 8
ROUNDS = 15


def measure() -> list[Row]:
    """Seconds of torchmetrics over ours for eight images of 480×360 with 12 classes, on one thread.

    Of predictions and their probabilities, as far as they are counted; and from logits on, where both look for the best
    class first, and ours for the probabilities.
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(IMAGES, CLASSES, HEIGHT, WIDTH, generator=generator)
    label = torch.randint(CLASSES, (IMAGES, HEIGHT, WIDTH), generator=generator).to(torch.uint8)
    label[torch.rand(label.shape, generator=generator) < 0.05] = 255
    best, prediction = logits.max(1)
    guess = prediction.to(label.dtype)
    sure = [find_sure(*image) for image in zip(logits, best, guess, label, strict=True)]
    rivals = [MulticlassConfusionMatrix(CLASSES, ignore_index=255, validate_args=False) for _ in range(IMAGES)]

    def ours() -> torch.Tensor:
        return count_confusion(prediction, label, CLASSES)

    def ours_sure() -> None:
        count_confusion(prediction, label, CLASSES)
        for image in zip(guess, label, sure, strict=True):
            count_sure(*image[:2], *image[2])

    def ours_from_logits() -> None:
        highest, found = logits.max(1)
        found = found.to(label.dtype)
        count_confusion(found, label, CLASSES)
        count_calibration(logits, highest, found, label)

    def theirs(guesses: torch.Tensor = prediction) -> torch.Tensor:
        for rival, one, truth in zip(rivals, guesses, label, strict=True):
            rival.reset()
            rival.update(one[None], truth.long()[None])
        return torch.stack([rival.compute() for rival in rivals])

    assert torch.equal(ours(), theirs()), "the counts differ"
    assert torch.equal(ours(), theirs(logits)), "the counts differ"
    functions = {
        "ours": ours, "sure": ours_sure, "from logits": ours_from_logits, "theirs": theirs,
        "theirs from logits": lambda: theirs(logits),
    }  # fmt: skip
    seconds = alternate(functions, ROUNDS, time.process_time)
    name = "torchmetrics' confusions / ours, 480×360, 12 classes"
    return [
        Row(f"counting: {name}", seconds["theirs"] / seconds["ours"], 3.0),
        Row(f"counting with calibration: {name}", seconds["theirs"] / seconds["sure"], 3.0),
        Row(f"the same, both from logits: {name}", seconds["theirs from logits"] / seconds["from logits"]),
    ]
