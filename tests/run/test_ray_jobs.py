"""A real cluster of Ray on this machine, of which a node dies. Skipped where Ray is not installed: it is an extra."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import repository_data

from rc2l_bench.cluster import ClusterConfig
from rc2l_bench.errors import PreemptedError, UsageError
from rc2l_bench.run import ray_jobs
from rc2l_bench.run.owners import Owner

CLUSTER = {
    "partition": "", "account": "", "nodes": 1, "gpus": 0, "cpus": 1, "memory_gb": 1, "hours": 1, "notice_seconds": 20,
    "at_once": 0, "processes": 1, "setup": [], "options": [],
}  # fmt: skip
RUN = ("rc2l-bench", "run", "--grid")
RESULT = Path("runs/blobs/1_2/baselines/supervised/seed0")


def test_a_run_of_several_nodes_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    with pytest.raises(UsageError, match="nodes is 2: with Ray a run is on one node"):
        ray_jobs.carry_out_on_ray([], ClusterConfig.model_validate(CLUSTER | {"nodes": 2}))


def test_where_ray_is_missing_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'rc2l-bench\[ray\]'"):
        ray_jobs.carry_out_on_ray([], ClusterConfig.model_validate(CLUSTER))


@pytest.mark.parametrize(("code", "raised"), [(0, False), (3, False), (PreemptedError.CONTINUE, True)])
def test_a_task_is_the_command_for_one_cell_and_goes_on_where_it_was_asked_to_stop(tmp_path, monkeypatch, code, raised):
    tell = "import os, sys; print(os.getcwd(), os.environ['X'], *sys.argv[1:], file=open('said', 'w')); "
    monkeypatch.setattr(ray_jobs, "START", f"{tell}sys.exit({code})")
    item = {"dataset": "shapes", "split": "1_4", "method": "baselines/cps", "seed": "3"}
    try:
        assert ray_jobs.carry_out_cell(item, str(tmp_path), {"X": "y"}) == code
        assert not raised
    except ray_jobs.TakenAwayError:
        assert raised
    said = (tmp_path / "said").read_text()
    assert said == f"{tmp_path} y run --dataset shapes --split 1_4 --method baselines/cps --seed 3\n"


@pytest.fixture
def cluster(monkeypatch) -> Iterator[object]:
    """A cluster whose first node has no room for runs."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'rc2l-bench[ray]'")
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    monkeypatch.setenv("RAY_ADDRESS", found.address)
    yield found
    found.shutdown()


def holder(root: Path) -> psutil.Process | None:
    """The process that trains, once it has written a checkpoint."""
    for folder in (root / ".rc2l/runs").glob("*"):
        if list(folder.glob("step-*.ckpt")) and (leases := list(folder.glob("lease-*.json"))):
            return psutil.Process(Owner.model_validate_json(leases[0].read_bytes()).pid)
    return None


def digest(root: Path) -> list[str]:
    names = ("metrics.json", "history.csv", "model.safetensors")
    return [hashlib.sha256((root / RESULT / name).read_bytes()).hexdigest() for name in names]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_training_whose_node_dies_goes_on_on_another_one_to_the_bit(cluster, tmp_path):
    for name in ("whole", "cut"):
        repository_data.write_checkout(tmp_path / name, protocol={"default": {"steps": 300}})
        (tmp_path / name / "cluster.yaml").write_text("".join(f"{key}: {value!r}\n" for key, value in CLUSTER.items()))
    first = cluster.add_node(num_cpus=1)
    root = tmp_path / "cut"
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(root)}
    with subprocess.Popen([*RUN, "--on", "ray"], cwd=root, env=env, stdout=subprocess.PIPE, text=True) as process:
        while (training := holder(root)) is None:
            assert process.poll() is None
            time.sleep(0.05)
        cluster.remove_node(first, allow_graceful=False)
        while training.is_running() and training.status() != psutil.STATUS_ZOMBIE:  # no orphan goes on
            time.sleep(0.05)
        cluster.add_node(num_cpus=1)
        repository_data.call(tmp_path / "whole", *RUN)
        said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    assert digest(root) == digest(tmp_path / "whole")
