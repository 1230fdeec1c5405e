"""FinishedRun folders as training leaves them, with numbers that follow from drawn confusion matrices."""

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from rc2l_bench.config import Params, load
from rc2l_bench.metrics import areas_of, class_iou, mean_iou
from rc2l_bench.report import report as reports
from rc2l_bench.report.comparability import declared_protocol
from rc2l_bench.report.quotes import refresh
from rc2l_bench.seals import FILES, KEY, RECORD, list_files, seal
from rc2l_bench.sources import fingerprint_again

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "reports" / "templates"
SUPERVISED, CPS, RC2L = "baselines/supervised", "baselines/cps", "rc2l_bench/methods/rc2l"
RC2L_NONE, RC2L_RMC = f"{RC2L}@none", f"{RC2L}@rmc"
WEIGHTS = {RC2L: {"rmc": 0.5, "rfc": 0.1}, RC2L_NONE: {"rmc": 0.0, "rfc": 0.0}, RC2L_RMC: {"rmc": 0.5, "rfc": 0.0}}
QUALITY = {RC2L: 0.75, RC2L_NONE: 0.65, RC2L_RMC: 0.7}
CLASSES = ("ground", "disc", "box", "ring", "cross", "star")
PALETTE = ((40, 40, 48), (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66))
LABELS = {"1_30": 33, "1_16": 63, "1_8": 125, "1_4": 250, "1_2": 500, "full": 1000}
SKILL = {"baselines/supervised": 0.0, "baselines/cps": 0.05, "rc2l_bench/methods/rc2l": 0.08, "baselines/u2pl": 0.055}
TRAIN = 1000
PLACE = f"shapes/1_16/{SUPERVISED}/seed0"
"""Of the run that `write_run` writes when nothing else is said."""


@cache
def _real():
    return load(Params, ROOT / "params.yaml")


def params(**grid):
    """params.yaml of the checkout with another grid."""
    real = _real()
    return real.model_copy(update={"grid": real.grid.model_copy(update=grid)})


GRID = params(method=[SUPERVISED, CPS, RC2L], split=["1_16", "1_4"], seed=[0, 1, 2])


def build(root, grid=GRID, **more):
    """A report of the runs under a folder."""
    return reports.build(Path(root), grid, **more)


def said(report):
    """Its remarks as text."""
    return "\n".join(f"{remark.where}: {remark.text}" for remark in report.remarks)


def quoted(library, words):
    """What a document has between the markers of a quote."""
    text, _ = refresh(f"It has <!-- evidence {words} -->?<!-- /evidence --> points.", "page.md", library)
    assert text.startswith(f"It has <!-- evidence {words} -->")
    assert text.endswith("<!-- /evidence --> points.")
    return text.split("-->")[1].removesuffix("<!-- /evidence ").strip()


def confusions(quality, *, images=40, classes=6, seed=0, scene=0):
    """(N, K, K) counts: the truth depends on `scene`, the mistakes on `seed`, their number on `quality` (0..1)."""
    truth_rng, rng = np.random.default_rng(scene), np.random.default_rng([scene, seed])
    shares = truth_rng.dirichlet(np.linspace(3, 0.4, classes), size=images)
    truth = truth_rng.multinomial(4000, shares)
    right = np.clip(quality + truth_rng.normal(0, 0.08, (images, classes)) + rng.normal(0, 0.01, classes), 0.02, 0.99)
    mistakes = (1 - right)[:, :, None] * (np.ones((classes, classes)) - np.eye(classes)) / (classes - 1)
    chances = mistakes + right[:, :, None] * np.eye(classes)
    return rng.multinomial(truth, chances).astype(np.int32)


def write_run(root, dataset="shapes", split="1_16", method="baselines/supervised", seed=0, *, quality=None, **more):
    """One complete run folder.

    Keywords: images, change (of the counts), protocol, draws, split_id, method_config, test, classes, panels, record.
    """
    folder = Path(root) / dataset / split / method / f"seed{seed}"
    folder.mkdir(parents=True)
    classes = more.get("classes", CLASSES)
    if quality is None:
        quality = 0.55 + 0.05 * np.log2(LABELS.get(split, 100) / 33) + SKILL.get(method, 0.03)
    counts = confusions(quality, images=more.get("images", 40), classes=len(classes), seed=hash_of(method, split, seed))
    counts = more.get("change", lambda x: x)(counts)
    absent = more.get("protocol", {}).get("eval", {}).get("absent", "skip")
    test = counts[: len(counts) // 2] if more.get("test") else None
    _write_metrics(folder, {"val": counts, "test": test}, classes, absent)
    _write_cost(folder, method, seed)
    for index in range(more.get("panels", 2)):
        _write_panel(folder / "panels", index, quality, seed, len(classes))
    _write_record(folder, (dataset, split, method, seed), classes, more)
    return folder


def reseal(folder, **changes):
    """Makes run.json, with changes, fit the files that are there, as if they had been written so."""
    record = json.loads((folder / RECORD).read_text()) | changes
    (folder / RECORD).unlink()
    content = {key: value for key, value in record.items() if key not in (KEY, FILES)}
    (folder / RECORD).write_bytes(seal({**content, FILES: list_files(folder)}, indent=2))


def hash_of(*parts):
    """A small number that depends on the parts, the same in every process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def digest(value):
    return hashlib.sha256(repr(value).encode()).hexdigest()


def score(counts, absent):
    """Final metrics as training writes them."""
    areas = areas_of(counts.sum(0))
    iou = [None if np.isnan(v) else float(v) for v in class_iou(areas, absent)]
    accuracy = float(np.trace(counts.sum(0)) / counts.sum())
    return {"miou": float(mean_iou(areas, absent)), "pixel_accuracy": accuracy, "iou": iou}


def _score_by_class(counts, classes, absent):
    final = score(counts, absent)
    final["iou"] = dict(zip(classes, final["iou"], strict=True))
    return final | {"averaged_classes": [name for name, value in final["iou"].items() if value is not None]}


def _write_metrics(folder, parts, classes, absent):
    final = _score_by_class(parts["val"], classes, absent)
    steps = [250, 500, 750, 1000]
    curve = [final["miou"] * f for f in (0.6, 0.85, 1.01, 1.0)]
    arrays = {}
    for part, counts in parts.items():
        if counts is not None:
            arrays |= {part: counts, f"{part}_ids": np.array([f"{part}_{i:04d}" for i in range(len(counts))])}
    metrics = {
        **final,
        "miou_best": max(curve),
        "best_step": steps[int(np.argmax(curve))],
        "evaluations": [{"step": s, "miou": m} for s, m in zip(steps, curve, strict=True)],
        "test": None if parts["test"] is None else _score_by_class(parts["test"], classes, absent),
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    np.savez_compressed(folder / "confusion.npz", **arrays)
    rows = [f"{s},0.001,{1 / s},{1 / s},{dict(zip(steps, curve, strict=True)).get(s, '')}" for s in range(50, 1001, 50)]
    (folder / "history.csv").write_text("\n".join(["step,lr,loss,supervised,miou", *rows]) + "\n")


def _write_cost(folder, method, seed):
    factor = 1 + 12 * SKILL.get(method, 0.03)
    cost = {
        "steps": 1000,
        "seconds": 61.5 * factor,
        "step_seconds": {"median": 0.058 * factor + seed * 1e-4, "p95": 0.07 * factor},
        "parts": {"data": 0.001, "augment": 0.005, "forward": 0.02, "backward": 0.03, "optimise": 0.002},
        "images_per_second": 270 / factor,
        "device": "cpu",
        "peak_memory": {"resident_mb": 700 + 150 * factor},
        "parameters": {"trained": int(400_000 * factor), "deployed": 400_000},
    }
    (folder / "cost.json").write_text(json.dumps(cost))


def _write_record(folder, cell, classes, more):
    dataset, split, method, seed = cell
    labelled, draws = LABELS.get(split, 100), more.get("draws", "fixed")
    record = {
        "cell": {"dataset": dataset, "split": split, "method": method, "seed": seed},
        "dataset": {"name": dataset, "classes": list(classes), "palette": PALETTE[: len(classes)], "canvas": [64, 96]},
        "split": {
            "id": more.get("split_id", digest((dataset, split, seed) if draws == "by_seed" else (dataset, split))),
            "draws": draws,
            "labelled": labelled,
            "unlabelled": TRAIN - labelled,
            "unlabelled_id": more.get("unlabelled_id", digest((dataset, split, "unlabelled"))),
        },
        "shards": {"pool": "aa", "labelled": f"bb{split}", "val": "cc", "test": None},
        "protocol": more.get("protocol", declared_protocol(params(), dataset)),
        "method_config": more.get("method_config", {"weight": 1.0}),
        "runtime": {"device": "cpu", "precision": "32-true", "threads": 2},
        "source": "5" * 64,
        "versions": {"python": "3.11.7", "torch": "2.14.1", "kornia": "0.9.0"},
        "hardware": {"cpu": "a processor", "cores": 2, "memory_gb": 16},
        "scored": "teacher" if method == "baselines/u2pl" else "student",
        "commit": "0123456789abcdef0123456789abcdef01234567",
    }
    record |= more.get("record", {})
    (folder / RECORD).write_text(json.dumps({"fingerprint": fingerprint_again(record), **record}))
    reseal(folder)


def _write_panel(folder, index, quality, seed, classes):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(index)
    rows, columns = np.mgrid[0:64, 0:96]
    truth = np.zeros((64, 96), np.uint8)
    for label in range(1, classes):
        y, x, r = rng.integers(8, 56), rng.integers(8, 88), rng.integers(6, 18)
        truth[(rows - y) ** 2 + (columns - x) ** 2 < r**2] = label
    image = np.asarray(PALETTE, np.uint8)[truth] // 2 + rng.integers(0, 100, (64, 96, 3), dtype=np.uint8)
    noise = np.random.default_rng([index, seed]).random((16, 24)).repeat(4, 0).repeat(4, 1)
    prediction = np.where(noise > quality + 0.1, np.roll(truth, 9, 1), truth)
    truth[:2] = 255
    name = f"{index}-val_{index:04d}"
    Image.fromarray(image).save(folder / f"{name}.image.png")
    for kind, labels in (("truth", truth), ("prediction", prediction)):
        picture = Image.fromarray(labels.astype(np.uint8))
        picture.putpalette([v for colour in PALETTE for v in colour] + [255] * 3 * (256 - len(PALETTE)))
        picture.save(folder / f"{name}.{kind}.png")


def write_grid(root, grid, skip=(), **more):
    """All runs of a grid but those in `skip` (cells as tuples)."""
    for dataset in grid.dataset:
        for split in grid.split:
            for method in grid.method:
                for seed in grid.seed:
                    if (dataset, split, method, seed) not in skip:
                        write_run(root, dataset, split, method, seed, **more)


def write_family(root, methods=(RC2L, RC2L_NONE, RC2L_RMC), **more):
    """Runs of a method and its variants, whose scores differ as their weights do."""
    for method in methods:
        for seed in (0, 1, 2):
            config = {"weights": WEIGHTS[method], "threshold": 0.7, "targets": "soft"}
            write_run(root, method=method, seed=seed, quality=QUALITY[method], method_config=config, **more)
