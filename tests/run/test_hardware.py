"""On what a run is carried out, and who starts its processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import repository_data
import torch
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from tiny_data import RUNTIME

from rc2l_bench.config import Runtime
from rc2l_bench.console import is_first_process
from rc2l_bench.errors import UsageError
from rc2l_bench.run.hardware import choose_launcher, commit, count_workers, hardware, open_fabric, peak_memory, spread

RUN = ("rc2l-bench", "run", "--dataset", "blobs", "--split", "1_2", "--method", "cps")
TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "WORLD_SIZE": "6", "LOCAL_RANK": "0", "GROUP_RANK": "0",
            "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "3"}  # fmt: skip
SLURM = {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
         "SLURM_JOB_ID": "7", "SLURM_NNODES": "1"}  # fmt: skip


def runtime(**changes) -> Runtime:
    return Runtime.model_validate_json(json.dumps(RUNTIME | changes))


def test_processes_are_started_here(monkeypatch):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    assert isinstance(choose_launcher(), LightningEnvironment)


def test_slurm_variables_change_nothing(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert isinstance(choose_launcher(), LightningEnvironment)


def test_torchrun_has_started_them(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert isinstance(choose_launcher(), TorchElasticEnvironment)


def test_copies_that_srun_starts_are_refused(monkeypatch):
    """Each would train the whole, or wait for the others without end."""
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(UsageError, match="srun has started 2 copies of this training: start one"):
        choose_launcher()


def test_what_torchrun_has_started_under_srun_is_no_copy(monkeypatch):
    for name, value in (TORCHRUN | {"SLURM_STEP_NUM_TASKS": "3"}).items():
        monkeypatch.setenv(name, value)
    assert isinstance(choose_launcher(), TorchElasticEnvironment)
    assert spread(6) == (2, 3)


def test_without_torchrun_all_processes_are_here(monkeypatch):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    assert spread(4) == (4, 1)


@pytest.mark.parametrize(("variables", "first"), [
    ({}, True), ({"RANK": "1"}, False), ({"LOCAL_RANK": "1"}, False), ({"SLURM_PROCID": "1"}, False),
    ({"SLURM_PROCID": "0"}, True), ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),
    ({"SLURM_PROCID": "1", "RANK": "0"}, True), ({"RANK": "2", "LOCAL_RANK": "0"}, False),
])  # fmt: skip
def test_one_process_of_a_training_is_the_first(monkeypatch, variables, first):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


def test_half_precision_needs_cuda():
    with pytest.raises(UsageError, match="16-mixed needs CUDA"):
        open_fabric(runtime(precision="16-mixed"))


def test_missing_devices_are_counted():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match="1 CUDA devices wanted, 0 are here"):
        open_fabric(runtime(device="cuda"))


def test_hardware_says_what_numbers_depend_on():
    found = hardware(torch.device("cpu"))
    assert (found["cores"], found["device"]) == (os.cpu_count(), "cpu")
    assert found["memory_mb"] > 100
    assert found["cpu"]


def test_the_peak_of_this_process_is_in_mebibytes():
    assert 50 < peak_memory(torch.device("cpu"))["resident_mb"] < 100_000


def test_the_commit_says_when_files_differ(tmp_path, monkeypatch):
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
    for command in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "x")):
        repository_data.call(tmp_path, *git, *command)
    monkeypatch.chdir(tmp_path)
    clean = commit()
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "a").touch()
    repository_data.call(tmp_path, "git", "add", "a")
    assert commit() == f"{clean}+"


def test_outside_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() is None


@pytest.mark.slow
def test_two_processes_on_a_login_node_print_what_one_prints(tmp_path):
    """With `srun` on PATH, as on a login node of a cluster."""
    repository_data.write_checkout(tmp_path, runtime={"devices": 2})
    (tmp_path / "bin").mkdir()
    srun = tmp_path / "bin/srun"
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    path = f"{Path(srun).parent}{os.pathsep}{os.environ['PATH']}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path)
        done = repository_data.call(tmp_path, *RUN)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    noise = ("arning", "srun", "deprecated", "GLOBAL_RANK")
    assert [line for line in lines if any(word in line for word in noise)] == []
    assert sum("step 4/4" in line for line in lines) == 1


@pytest.mark.parametrize(("cores", "workers", "devices", "threads", "device", "expected"), [
    (16, 3, 1, 1, "cuda", 3), (16, "auto", 1, 4, "cuda", 8), (6, "auto", 1, 4, "cuda", 5),
    (16, "auto", 4, 1, "cuda", 3), (2, "auto", 1, 1, "cpu", 1), (8, "auto", 2, 2, "cpu", 2),
    (2, "auto", 1, 4, "cpu", 0),
])  # fmt: skip
def test_loader_processes_take_the_cores_that_are_left(monkeypatch, cores, workers, devices, threads, device, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    asked = runtime(workers=workers, devices=devices, threads=threads)
    assert count_workers(asked, torch.device(device)) == expected
