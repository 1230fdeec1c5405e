"""How the cost of a report grows with the number of runs."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from perf import Row
from rc2l_bench.config import Params, load
from rc2l_bench.metrics import areas_of, class_iou, mean_iou
from rc2l_bench.report import dvc_export
from rc2l_bench.report.report import build
from rc2l_bench.report.writer import write
from rc2l_bench.seals import FILES, RECORD, list_files, seal

FEW, MANY = 100, 500
IMAGES, CLASSES = 40, ("ground", "disc", "box", "ring", "cross", "star")


def measure() -> list[Row]:
    """Seconds of a processor for a report of five times as many runs: other seeds, the same tables and figures."""
    params = load(Params, Path("params.yaml"))
    methods = params.grid.method
    with tempfile.TemporaryDirectory() as scratch:
        for runs in (FEW, MANY):
            for number in range(runs):
                method, seed = methods[number % len(methods)], number // len(methods)
                _write_run(Path(scratch, str(runs)), "shapes", params.grid.split[0], method, seed, params)

        def report(runs: int) -> None:
            made = build(Path(scratch, str(runs)), params)
            write(made, Path(scratch, "out"))
            dvc_export.write(made.runs, Path(scratch, "out"))

        report(FEW)  # fonts and templates are read once
        seconds = {}
        for runs in (FEW, MANY):
            begin = time.process_time()
            report(runs)
            seconds[runs] = time.process_time() - begin
    return [
        Row(f"report: {MANY} runs / {FEW} runs", seconds[MANY] / seconds[FEW], 2.0, least=False),
        Row("report: milliseconds of a run more", 1000 * (seconds[MANY] - seconds[FEW]) / (MANY - FEW)),
    ]


def _write_run(root: Path, dataset: str, split: str, method: str, seed: int, params: Params) -> None:
    """Write a folder as a training leaves it, without weights and pictures; its counts are drawn."""
    folder = root / dataset / split / method / f"seed{seed}"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 50, (IMAGES, len(CLASSES), len(CLASSES)), dtype=np.int32)
    counts += 200 * np.eye(len(CLASSES), dtype=np.int32)
    areas = areas_of(counts.sum(0))
    miou, iou = float(mean_iou(areas, "skip")), dict(zip(CLASSES, class_iou(areas, "skip").tolist(), strict=True))
    np.savez_compressed(folder / "confusion.npz", val=counts, val_ids=np.array([f"{n:04d}" for n in range(IMAGES)]))
    scores = {"miou": miou, "miou_best": miou, "averaged_classes": list(CLASSES), "iou": iou, "test": None}
    cost = {"seconds": 60.0, "step_seconds": {"median": 0.06}, "peak_memory": {"resident_mb": 900}, "device": "cpu"}
    for name, content in (("metrics.json", scores), ("cost.json", cost)):
        (folder / name).write_text(json.dumps(content))
    rows = [f"{step},0.001,1.5,{miou if step % 100 == 0 else ''}\n" for step in range(5, 1001, 5)]
    (folder / "history.csv").write_text("".join(["step,lr,loss,miou\n", *rows]))
    record: dict[str, Any] = {
        "fingerprint": f"{method} {seed}",
        "cell": {"dataset": dataset, "split": split, "method": method, "seed": seed},
        "dataset": {"classes": CLASSES, "palette": [[40 * n, 80, 120] for n in range(len(CLASSES))]},
        "split": {"id": "a", "draws": "fixed", "labelled": 64, "unlabelled": 960, "unlabelled_id": "b"},
        "shards": {"pool": "c", "labelled": "d", "val": "e", "test": None},
        "protocol": params.protocol_of(dataset).model_dump(mode="json"),
        "method_config": {"weight": 1.0}, "versions": {"torch": "2"}, "hardware": {"cpu": "a processor", "cores": 2},
    }  # fmt: skip
    (folder / RECORD).write_bytes(seal({**record, FILES: list_files(folder)}))
