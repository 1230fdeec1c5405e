"""Commands of Slurm that answer what a test has written, and note what they were asked; for real: tests/cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import tiny_data

from rc2l_bench.cluster import ClusterConfig
from rc2l_bench.run.submissions import TaskState, find_submissions
from rc2l_bench.schema import read_yaml

PLAIN = read_yaml(tiny_data.ROOT / "cluster.yaml")
CLUSTER = ClusterConfig.model_validate_json(json.dumps(PLAIN))
ITEMS = [{"dataset": "tiny", "split": "1_4", "method": "baselines/supervised", "seed": str(seed)} for seed in (0, 1)]
TITLES = [f"tiny 1_4 baselines/supervised seed {seed}" for seed in (0, 1)]
COMMAND = """#!/bin/sh
name="$(basename "$0")"
[ "$name" = scontrol ] && name="scontrol-$1-$2"
[ "$1" = requeue ] && name=scontrol-requeue
here="$(dirname "$0")"
printf '%s\\n' "$@" >> "$here/$name.asked"
[ -f "$here/$name.refuse" ] && cat "$here/$name.refuse" >&2 && exit 1
[ -f "$here/$name.answer" ] && cat "$here/$name.answer"
exit 0
"""
ANSWERS = {
    "sbatch": "41\n", "scontrol-show-config": "MaxArraySize            = 1001\n", "squeue": "",
    "scontrol-show-partition": "PartitionName=gpu AllowGroups=ALL\nPartitionName=cpu AllowGroups=ALL\n",
}  # fmt: skip


class FakeSlurm:
    """A folder of commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("sbatch", "squeue", "scontrol"):
            (folder / name).write_text(COMMAND)
            (folder / name).chmod(0o755)
        for name, text in ANSWERS.items():
            self.answer(name, text)

    def answer(self, name: str, text: str) -> None:
        (self.folder / f"{name}.answer").write_text(text)

    def refuse(self, name: str, text: str) -> None:
        (self.folder / f"{name}.refuse").write_text(text)

    def asked(self, name: str) -> list[str]:
        path = self.folder / f"{name}.asked"
        return path.read_text().splitlines() if path.exists() else []


def put_on_path(folder: Path, patch: pytest.MonkeyPatch) -> FakeSlurm:
    folder.mkdir()
    patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return FakeSlurm(folder)


@pytest.fixture(scope="session")
def jobs_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with data."""
    root = tmp_path_factory.mktemp("jobs")
    tiny_data.write_checkout(root, protocol={"default": {"steps": 2}})
    tiny_data.write_data(root, "tuning-tiny", "1_2", seeds=[0])
    tiny_data.write_yaml(root / "cluster.yaml", PLAIN)
    return root


@pytest.fixture
def slurm(jobs_checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A checkout without jobs whose data are up to date, on a machine with Slurm."""
    for name in ("data", "baselines", "pipelines", "dvc.yaml", "params.yaml", "cluster.yaml"):
        (tmp_path / name).symlink_to(jobs_checkout / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rc2l_bench.run.array_jobs.carry_out_data", lambda _: 0)
    monkeypatch.setattr("rc2l_bench.data.datasets.registry.names", lambda: ["tiny"])
    return put_on_path(tmp_path / "bin", monkeypatch)


def note(number: int, state: str, code: int = 0, restarts: int = 0) -> None:
    """What a task of the last submission would write."""
    known = TaskState.model_validate({"state": state, "code": code, "host": "n1", "restarts": restarts})
    find_submissions()[-1].write_state(number, known)
