"""Trainings with trackers, and what trackers show of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_data

PLACE = "tiny/1_4/baselines/supervised/seed0"
HEAD = {
    "title": "t", "fingerprint": "f" * 64, "settings": {"protocol.steps": 12}, "begin": 0,
    "cell": {"dataset": "tiny", "split": "1_4", "method": "baselines/cps@plain", "seed": 0},
}  # fmt: skip


def train(checkout: Path, launch: Any, *names: str, method: str = "baselines/supervised", **env: str) -> Any:
    """A whole training with trackers; what it left behind, and what it said."""
    tiny_data.write_yaml(checkout / "params.yaml", tiny_data.params(runtime={"trackers": list(names)}))
    arguments = ("tiny", "1_4", method, "0", "data/shards/tiny", "data/splits/tiny/1_4/seed0.json", "runs/a")
    done = launch("pipelines.train", *arguments, cwd=checkout, **env)
    assert done.returncode == 0, done.stderr
    return done


def history(checkout: Path) -> list[dict[str, float]]:
    with (checkout / "runs/a/history.csv").open() as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def miou(checkout: Path) -> float:
    return float(json.loads((checkout / "runs/a/metrics.json").read_text())["miou"])


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), purge_orphaned_data=True).Reload()
    return {name: [(point.step, point.value) for point in found.Scalars(name)] for name in found.Tags()["scalars"]}


def wanted(rows: list[dict[str, float]]) -> dict[str, list[tuple[int, float]]]:
    names = {name for row in rows for name in row} - {"step"}
    return {
        name: [(int(row["step"]), pytest.approx(row[name], rel=1e-6)) for row in rows if name in row] for name in names
    }
