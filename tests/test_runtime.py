from __future__ import annotations

import pytest
from config_data import refused


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device", "gpu"), ("devices", 0), ("precision", "fp16"), ("threads", 0), ("workers", -1), ("workers", 1000),
        ("workers", "many"), ("workers", True),
        ("devices", 2**70), ("threads", 2**70), ("cache_mb", 2**70), ("checkpoint_every", 2**70), ("log_every", 2**70),
        ("checkpoint_minutes", -1), ("checkpoint_minutes", 1e308), ("share_minutes", -1),
        ("cache_mb", -1), ("checkpoint_every", 0), ("log_every", 0), ("deterministic", "yes"),
        ("trackers", ["mlflow", "mlflow"]),
    ],
)  # fmt: skip
def test_an_absurd_runtime_is_refused_by_name(tmp_path, key, value):
    assert refused(tmp_path, runtime={key: value}).startswith(f"runtime.{key}: ")


def test_an_unknown_tracker_is_refused_with_the_known_ones(tmp_path):
    said = refused(tmp_path, runtime={"trackers": ["tensorboard", "comet"]})
    assert said.startswith("runtime.trackers.1: ")
    assert "'dvclive', 'tensorboard', 'mlflow' or 'wandb'" in said
