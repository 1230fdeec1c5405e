"""What a run leaves behind: metrics, counts per image, history, cost, provenance, weights, pictures."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save
from torch import nn

from rc2l_bench.methods.contract import Method
from rc2l_bench.metrics import Absent, areas_of, class_iou, mean_iou, pixel_accuracy
from rc2l_bench.run.evaluate import Evaluation
from rc2l_bench.run.train import Record

Palette = list[tuple[int, int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One image of the validation part as a picture.

    Attributes:
        id: of the image.
        image: (H, W, 3) uint8.
        truth: (H, W) uint8, classes and 255.
        prediction: (H, W) uint8, classes.
    """

    id: str
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def score(evaluation: Evaluation, classes: list[str], absent: Absent) -> dict[str, Any]:
    """Compute mIoU, the classes it is the mean over, pixel accuracy and IoU per class; None where undefined."""
    confusion = evaluation.confusion.sum(0, dtype=np.int64)
    areas = areas_of(confusion)
    iou = dict(zip(classes, class_iou(areas, absent), strict=True))
    return {
        "miou": _number(float(mean_iou(areas, absent))),
        "averaged_classes": [name for name, value in iou.items() if not math.isnan(value)],
        "pixel_accuracy": _number(pixel_accuracy(confusion)),
        "iou": {name: _number(value) for name, value in iou.items()},
    }


def metrics(
    record: Record, val: Evaluation, test: Evaluation | None, classes: list[str], absent: Absent
) -> dict[str, Any]:
    """Fill metrics.json.

    Args:
        record: gives the evaluations during training.
        val: the last evaluation of the validation part; `miou` is its score. `miou_best` is the best one, chosen on the
            images that it is scored on.
        test: of the test part.
        classes: names.
        absent: what a class without truth counts for.
    """
    best_step, best = max(record.evaluations, key=lambda found: found[1])
    return {
        **score(val, classes, absent),
        "miou_best": _number(best),
        "best_step": best_step,
        "evaluations": [{"step": step, "miou": _number(miou)} for step, miou in record.evaluations],
        "test": score(test, classes, absent) if test else None,
    }


def cost(
    record: Record, images_per_step: int, memory: Mapping[str, float], method: Method, device: str, devices: int
) -> dict[str, Any]:
    """cost.json: seconds, device seconds, images per second, peak memory in MiB, parameters."""
    seconds = np.array(record.step_seconds)
    steps = len(seconds)
    parts = {name: total / steps for name, total in record.part_seconds.items()}
    return {
        "steps": steps,
        "seconds": record.seconds,
        "device_seconds": record.seconds * devices,
        "step_seconds": {"median": float(np.median(seconds)), "p95": float(np.quantile(seconds, 0.95))},
        "parts": parts | {"log_and_checkpoint": record.other_seconds / steps},
        "images_per_second": images_per_step * steps / float(seconds.sum()),
        "device": device,
        "devices": devices,
        "peak_memory": dict(memory),
        "parameters": {
            "trained": sum(p.numel() for p in method.parameters() if p.requires_grad),
            "deployed": sum(p.numel() for p in method.deployed().parameters()),
        },
    }


def render_history(record: Record) -> str:
    """history.csv; an empty place where nothing was measured."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(record.history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(record.history)
    return text.getvalue()


def _weights(net: nn.Module) -> bytes:
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()})


def _save_classes(path: Path, classes: NDArray[np.uint8], palette: Palette) -> None:
    picture = Image.fromarray(classes)
    colours = np.full((256, 3), 255, np.uint8)
    colours[: len(palette)] = palette
    picture.putpalette(colours.tobytes())
    picture.save(path)


def _save_panels(folder: Path, panels: list[Panel], palette: Palette) -> None:
    folder.mkdir()
    for number, panel in enumerate(panels):
        stem = f"{number}-{panel.id}"
        Image.fromarray(panel.image).save(folder / f"{stem}.image.png")
        _save_classes(folder / f"{stem}.truth.png", panel.truth, palette)
        _save_classes(folder / f"{stem}.prediction.png", panel.prediction, palette)


def write_artifacts(
    folder: Path,
    *,
    metrics: Mapping[str, Any],
    cost: Mapping[str, Any],
    run: Mapping[str, Any],
    record: Record,
    evaluations: Mapping[str, Evaluation],
    net: nn.Module,
    panels: list[Panel],
    palette: Palette,
) -> None:
    """Writes the files of a run.

    Args:
        folder: exists and is empty.
        metrics: from `metrics`.
        cost: from `cost`.
        run: cell, fingerprint and all its parts.
        record: history.
        evaluations: by part, `val` and perhaps `test`.
        net: what is deployed.
        panels: pictures.
        palette: colours of the classes.
    """
    for name, content in (("metrics", metrics), ("cost", cost), ("run", run)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")
    (folder / "history.csv").write_text(render_history(record))
    (folder / "model.safetensors").write_bytes(_weights(net))
    counts: dict[str, Any] = {}
    for part, found in evaluations.items():
        counts |= {part: found.confusion, f"{part}_ids": np.array(found.ids, dtype=np.str_)}
    np.savez_compressed(folder / "confusion.npz", **counts)
    _save_panels(folder / "panels", panels, palette)
