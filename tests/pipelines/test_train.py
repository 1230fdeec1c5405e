"""The stage `train`: what is wrong is told before, or after, but not during a training."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import tiny_data

from rc2l_bench.data import splits


def stage_error(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def train(launch, root: Path, method: str = "baselines/supervised", split: str = "1_4", out: str = "runs/a"):
    plan = f"data/splits/tiny/{split}/seed0.json"
    return launch("pipelines.train", "tiny", split, method, "0", "data/shards/tiny", plan, out, cwd=root)


def test_training_an_unknown_method_is_told(checkout, launch):
    assert "unknown method 'baselines/nothing'" in stage_error(train(launch, checkout, "baselines/nothing"), 2)


def test_training_without_a_split_is_told(checkout, launch):
    assert "1_3/seed0.json: No such file" in stage_error(train(launch, checkout, split="1_3"), 1)


def test_training_with_a_damaged_split_is_told(checkout, launch):
    (checkout / "data/splits/tiny/1_4/seed0.json").write_text('{"dataset": "ti')
    assert "1_4/seed0.json" in stage_error(train(launch, checkout), 1)


def test_training_without_shards_is_told(checkout, launch):
    shutil.rmtree(checkout / "data/shards/tiny/val")
    assert "val/index.json: is missing" in stage_error(train(launch, checkout), 1)


def test_training_with_shards_of_another_split_is_told(checkout, launch):
    plan = checkout / "data/splits/tiny/1_4/seed0.json"
    split = splits.read(plan)
    splits.write(replace(split, labelled=split.labelled[1:]), plan)
    assert "was made for another split" in stage_error(train(launch, checkout), 1)


def test_training_with_missing_weights_is_told(checkout, launch):
    tiny_data.write_yaml(
        checkout / "params.yaml", tiny_data.params(protocol={"default": {"net": {"weights": "w.safetensors"}}})
    )
    assert "net.weights: there is no file w.safetensors" in stage_error(train(launch, checkout), 2)


def test_a_read_only_folder_is_told_and_nothing_is_half_written(checkout, launch):
    checkout.chmod(0o555)
    try:
        said = stage_error(train(launch, checkout), 1)
    finally:
        checkout.chmod(0o755)
    assert re.search(r"\.rc2l.*: Permission denied", said)
    assert not (checkout / ".rc2l").exists()


def test_a_read_only_place_for_the_result_is_told(checkout, launch):
    """The training is not lost: it is in the store."""
    (checkout / "runs").mkdir(mode=0o555)
    said = stage_error_after_training(train(launch, checkout), 1)
    assert re.search(r"runs.*: Permission denied", said)
    assert list((checkout / "runs").iterdir()) == []
    (checkout / "runs").chmod(0o755)
    done = train(launch, checkout)
    assert done.returncode == 0
    assert "step" not in done.stdout, "nothing is trained again"
    assert (checkout / "runs/a/metrics.json").is_file()


def stage_error_after_training(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_the_environment_of_the_tests_obeys_modes(tmp_path, launch):
    """Twin of the tests above: they can fail."""
    (tmp_path / "shut").mkdir(mode=0o555)
    (tmp_path / "touch.py").write_text("open('shut/x', 'w')")
    done = launch("touch", cwd=tmp_path)
    assert "PermissionError" in done.stderr
    assert list((tmp_path / "shut").iterdir()) == []
