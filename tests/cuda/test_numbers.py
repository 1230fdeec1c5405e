"""Are numbers on a GPU what they are on a CPU, in every precision, twice, and after a kill?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import repository_data
import tiny_data
import torch
import torch.multiprocessing as mp
from device_data import (
    CPU,
    compare_precisions,
    count,
    learn,
    moved_share,
    state_bytes,
)
from method_data import METHODS
from norm_data import features, in_two_processes, normed

each_method = pytest.mark.parametrize("name", METHODS)
PRECISIONS = ("bf16-mixed", "16-mixed")


@each_method
def test_deterministic_kernels_give_the_same_bytes_twice(name, device, found):
    """Unless torch warns of a kernel that has no deterministic form; which, is written down."""
    (first, _, warned), (second, _, _) = (learn(name, device, 10) for _ in range(2))
    found.setdefault("without deterministic kernels", {})[name] = sorted(warned)
    same = state_bytes(first) == state_bytes(second)
    found.setdefault("same bytes twice", {})[name] = same
    assert same or warned


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["baselines/supervised", "baselines/supervised_region", "rc2l_bench/methods/rc2l"])
def test_reduced_precision_learns_the_same_over_200_steps(name, precision, device, found):
    distance = compare_precisions(name, device, precision, 200)
    found.setdefault("distance of the supervised loss from float32", {}).setdefault(name, {})[precision] = distance
    assert distance < 0.1


@each_method
def test_an_evaluation_counts_what_it_counts_on_the_cpu(name, device, found):
    method, _, _ = learn(name, device, 20)
    share = moved_share(count(method, device), count(method, CPU))
    found.setdefault("share of pixels that are another class than on the CPU", {})[name] = share
    assert share <= 0.001


def test_two_processes_on_one_card_normalise_like_one(tmp_path, device):
    mp.spawn(in_two_processes, (tmp_path, device), nprocs=2)
    outs = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    whole = normed(device)(features(device)).detach().cpu()
    torch.testing.assert_close(torch.cat([out for out, _ in outs]), whole, rtol=1e-4, atol=1e-5)


def start(checkout: Path, out: str) -> subprocess.Popen[bytes]:
    cell = ["tiny", "1_4", "baselines/mean_teacher", "0", "data/shards/tiny", "data/splits/tiny/1_4/seed0.json", out]
    return subprocess.Popen([sys.executable, "-m", "pipelines.train", *cell], cwd=checkout, stderr=subprocess.PIPE)


def finish(checkout: Path, out: str) -> tuple[bytes, bytes]:
    """Carries a run out to its end: weights and history."""
    process = start(checkout, out)
    _, error = process.communicate(timeout=200)
    assert process.returncode == 0, error.decode()
    return (checkout / out / "model.safetensors").read_bytes(), (checkout / out / "history.csv").read_bytes()


def test_a_run_that_was_killed_continues_to_the_same_bytes(tmp_path):
    roots = [tmp_path / "whole", tmp_path / "killed"]
    for root in roots:
        root.mkdir()
        tiny_data.write_checkout(root, runtime={"device": "cuda"}, protocol={"default": {"steps": 200}})
    wanted = finish(roots[0], "runs/a")
    process = start(roots[1], "runs/a")
    deadline = time.monotonic() + 120
    while not list((roots[1] / ".rc2l/runs").glob("*/step-*.ckpt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert finish(roots[1], "runs/a") == wanted


def score_shapes(root: Path, precision: str) -> float:
    """mIoU of the supervised baseline on `shapes`, as a user trains it."""
    root.mkdir()
    repository_data.write_checkout(root)
    text = (tiny_data.ROOT / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("precision: 32-true", f"precision: {precision}").replace("workers: 0", "workers: auto")
    (root / "params.yaml").write_text(text, encoding="utf-8")
    run = ("rc2l-bench", "run", "--dataset", "shapes", "--split", "1_4", "--method", "supervised")
    repository_data.call(root, *run)
    metrics: dict[str, Any] = json.loads(next(root.glob("runs/shapes/**/metrics.json")).read_text(encoding="utf-8"))
    return float(metrics["miou"])


def test_reduced_precision_ends_within_a_point_on_shapes(tmp_path, found):
    scores = {precision: score_shapes(tmp_path / precision, precision) for precision in ("32-true", *PRECISIONS)}
    found["mIoU on shapes"] = scores
    assert max(scores.values()) - min(scores.values()) < 0.01
