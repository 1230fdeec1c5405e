"""Write the artifacts of a run: metrics, counts per image, history, cost, provenance, weights, pictures."""

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
from rc2l_bench.metrics import (
    Absent,
    areas_of,
    calibration_error,
    class_iou,
    mean_iou,
    mean_over_pixels,
    pixel_accuracy,
)
from rc2l_bench.run.calibration import Calibration
from rc2l_bench.run.evaluate import Evaluation
from rc2l_bench.run.record import Record
from rc2l_bench.seals import FILES, RECORD, list_files, seal

Palette = list[tuple[int, int, int]]

LONGEST_NAME = 200
"""Bytes of an id in the name of a panel: most file systems allow 255, and number and suffix need some."""


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
    """Return a number for JSON, which has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None


def score_calibration(found: Calibration) -> dict[str, float | None]:
    """Compute calibration error and negative log-likelihood of N images.

    Returns:
        `ece` and `nll` over the pixels of all images together; `ece_per_image` and `nll_per_image`, the means of those
        of single images with a counted pixel. None where there is none.
    """
    seen = found.bins[:, 0].any(-1)
    bins, nll = found.bins[seen], found.nll[seen]
    single = {"ece_per_image": calibration_error(bins), "nll_per_image": mean_over_pixels(nll, bins)}
    return {
        "ece": _number(float(calibration_error(bins.sum(0)))),
        "nll": _number(float(mean_over_pixels(nll.sum(0), bins.sum(0)))),
        **{name: _number(float(values.mean())) if len(values) else None for name, values in single.items()},
    }


def score(evaluation: Evaluation, classes: list[str], absent: Absent) -> dict[str, Any]:
    """Compute mIoU, the classes it is the mean over, pixel accuracy and IoU per class of an evaluation.

    Args:
        evaluation: counts of N images.
        classes: K names.
        absent: what a class without truth counts for.

    Returns:
        `miou`, `averaged_classes`, `pixel_accuracy` and, by class, `iou`: in [0, 1], None where undefined. What
        `score_calibration` gives, where confidences were counted.
    """
    # Counts of all images first, as VOC and Cityscapes do: a mean of mIoUs per image would be another score.
    confusion = evaluation.confusion.sum(0, dtype=np.int64)
    areas = areas_of(confusion)
    iou = dict(zip(classes, class_iou(areas, absent), strict=True))
    return {
        "miou": _number(float(mean_iou(areas, absent))),
        "averaged_classes": [name for name, value in iou.items() if not math.isnan(value)],
        "pixel_accuracy": _number(pixel_accuracy(confusion)),
        "iou": {name: _number(value) for name, value in iou.items()},
        **(score_calibration(evaluation.calibration) if evaluation.calibration else {}),
    }


def metrics(
    record: Record,
    val: Evaluation,
    test: Evaluation | None,
    classes: list[str],
    absent: Absent,
    corrupted: Mapping[str, float],
) -> dict[str, Any]:
    """Assemble metrics.json.

    Args:
        record: of the training.
        val: the last evaluation of the validation part, which `miou` is of.
        test: of the test part, scored once; None where the data set has none.
        classes: K names.
        absent: what a class without truth counts for.
        corrupted: mIoU of the validation part by corruption; empty where none was asked for.

    Returns:
        As `score`, with `miou_best`, the best evaluation of the validation part. That one is chosen on the images it is
        scored on, so it is optimistic. `corruptions` are there if any were asked for.
    """
    best_step, best = max(record.evaluations, key=lambda found: found[1])
    return {
        **score(val, classes, absent),
        "miou_best": _number(best),
        "best_step": best_step,
        "evaluations": [{"step": step, "miou": _number(miou)} for step, miou in record.evaluations],
        "test": score(test, classes, absent) if test else None,
        **({"corruptions": {name: _number(miou) for name, miou in corrupted.items()}} if corrupted else {}),
    }


def network_of(method: Method) -> str | None:
    """Name the class of `rc2l_bench.nets` that alone computes what `predict` gives.

    Returns:
        `PixelNet` or `RegionNet`, with which the weights can be used without the method's code; None where they cannot.
    """
    network = type(method.deployed())
    plain = type(method).predict is Method.predict and network.__module__.startswith("rc2l_bench.nets.")
    return network.__name__ if plain else None


def cost(
    record: Record, images_per_step: int, memory: Mapping[str, float], method: Method, device: str, devices: int
) -> dict[str, Any]:
    """Assemble cost.json: seconds, device seconds, share of waiting, images per second, peak memory in MiB, parameters.

    Args:
        record: of the training.
        images_per_step: labelled and unlabelled, over all processes.
        memory: peaks in MiB by kind.
        method: for its numbers of parameters.
        device: type of the device.
        devices: number of processes.
    """
    # A step is told by median and 95 % quantile: the first ones warm up, and other programs disturb a few. Parts are
    # means, so that they add up to what a step takes.
    seconds = np.array(record.step_seconds)
    steps = len(seconds)
    parts = {name: total / steps for name, total in record.part_seconds.items()}
    return {
        "steps": steps,
        "seconds": record.seconds,
        "device_seconds": record.seconds * devices,
        "step_seconds": {"median": float(np.median(seconds)), "p95": float(np.quantile(seconds, 0.95))},
        "parts": parts | {"log_and_checkpoint": record.other_seconds / steps},
        "waiting_for_data": record.part_seconds["data"] / float(seconds.sum()),
        # Over the time of the steps alone: evaluations take about as long for every method, and would hide what a step
        # costs.
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
    """Write history.csv as text; an empty place where nothing was measured."""
    text = io.StringIO()
    # The first row has all columns, because a method gives the same losses at every step.
    writer = csv.DictWriter(text, list(record.history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(record.history)
    return text.getvalue()


def _weights(net: nn.Module) -> bytes:
    # Contiguous, because safetensors refuses the channels-last layout that networks are trained in.
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()})


def _save_classes(path: Path, classes: NDArray[np.uint8], palette: Palette) -> None:
    # A palette: the file shows colours, and its pixels are still the classes, so errors can be counted in it.
    picture = Image.fromarray(classes)
    colours = np.full((256, 3), 255, np.uint8)
    colours[: len(palette)] = palette
    picture.putpalette(colours.tobytes())
    picture.save(path)


def _file_name(identity: str) -> str:
    """Turn an id into a part of a file name: no `/`, short enough for any file system; a number keeps it unique."""
    name = identity.replace("%", "%25").replace("/", "%2F")
    return name.encode()[:LONGEST_NAME].decode(errors="ignore")


def _save_panels(folder: Path, panels: list[Panel], palette: Palette) -> None:
    folder.mkdir()
    for number, panel in enumerate(panels):
        stem = f"{number}-{_file_name(panel.id)}"
        Image.fromarray(panel.image).save(folder / f"{stem}.image.png")
        _save_classes(folder / f"{stem}.truth.png", panel.truth, palette)
        _save_classes(folder / f"{stem}.prediction.png", panel.prediction, palette)


def _save_counts(folder: Path, evaluations: Mapping[str, Evaluation]) -> None:
    """Write confusion.npz and, where confidences were counted, calibration.npz: by image, in the order of the ids."""
    # Ids as text of fixed width, not as objects: those would be pickled, and no file here is to be unpickled.
    # Compressed, because most pairs of classes never occur in an image.
    counts: dict[str, Any] = {}
    sure: dict[str, Any] = {}
    for part, found in evaluations.items():
        ids = {f"{part}_ids": np.array(found.ids, dtype=np.str_)}
        counts |= {part: found.confusion} | ids
        if found.calibration:
            sure |= {f"{part}_bins": found.calibration.bins, f"{part}_nll": found.calibration.nll} | ids
    np.savez_compressed(folder / "confusion.npz", **counts)
    if sure:
        np.savez_compressed(folder / "calibration.npz", **sure)


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
    """Write the files of a run, and the list of their hashes.

    Args:
        folder: exists and is empty.
        metrics: from `metrics`.
        cost: from `cost`.
        run: cell, fingerprint and all its parts.
        record: history.
        evaluations: by part, `val` and perhaps `test`; their counts per image are kept, because intervals resample
            images, and so are their confidences.
        net: what is deployed.
        panels: pictures.
        palette: colours of the classes.
    """
    for name, content in (("metrics", metrics), ("cost", cost)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")
    (folder / "history.csv").write_text(render_history(record))
    (folder / "model.safetensors").write_bytes(_weights(net))
    _save_counts(folder, evaluations)
    _save_panels(folder / "panels", panels, palette)
    # The last one, because it holds the hashes of all the others.
    (folder / RECORD).write_bytes(seal({**run, FILES: list_files(folder)}, indent=2))
