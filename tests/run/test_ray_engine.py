"""Cells on a real Ray of two nodes on this machine, one of which is killed in the middle of a training."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import tiny_data
from commands_data import call, refused

from rc2l_bench.cluster import ClusterConfig
from rc2l_bench.errors import UsageError
from rc2l_bench.run.ray_engine import SETTINGS, check_request, open_ray
from rc2l_bench.schema import read_yaml

ray = pytest.importorskip("ray", reason="Ray is an extra: pip install 'rc2l-bench[ray]'")

pytestmark = pytest.mark.slow

PLAIN = read_yaml(tiny_data.ROOT / "cluster.yaml") | {"cpus": 1, "memory_gb": 0.5}
STEPS, EVERY = 60, 10
FILES = ("model.safetensors", "metrics.json", "history.csv")
COMMAND = """
from rc2l_bench.cli.app import main
from rc2l_bench.data.datasets import registry
from rc2l_bench.run import pipeline, ray_engine
registry.names = lambda: ["tiny"]  # whose data are there, and have no source
pipeline.carry_out_data = ray_engine.carry_out_data = lambda _: 0
if __name__ == "__main__":
    main()
"""
SLOW = """        import os, pathlib, time
        with pathlib.Path(f"{os.getpid()}.steps").open("a") as file:
            file.write(f"{progress}\\n")
        time.sleep(0.1)
"""
"""What each step of the method does besides, so that there is time to kill it."""


class Pair(NamedTuple):
    """A Ray of two nodes with a core each."""

    cluster: Any
    second: Any

    def trainings(self, node: Any) -> list[int]:
        """Processes of trainings on a node."""
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        return [process.pid for process in raylet.children(recursive=True) if "pipelines.train" in process.cmdline()]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            yield Pair(cluster, cluster.add_node(num_cpus=1))
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A checkout with data."""
    root = tmp_path_factory.mktemp("made")
    tiny_data.write_checkout(root, protocol={"default": {"steps": STEPS}}, runtime={"checkpoint_every": EVERY})
    tiny_data.write_yaml(root / "cluster.yaml", PLAIN)
    method, place = root / "baselines/supervised.py", '"""Compute the one loss, on the labelled images."""\n'
    text = method.read_text()
    assert text.count(place) == 1
    method.write_text(text.replace(place, place + SLOW))
    (root / "command.py").write_text(COMMAND)
    return root


@contextmanager
def running(root: Path, *seeds: int, address: str = "", more: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    words = [word for seed in seeds for word in ("--seed", str(seed))]
    command = [sys.executable, "command.py", "run", "--method", "supervised", "--split", "1_4", "--dataset", "tiny"]
    env = os.environ | {"RAY_ADDRESS": address, "COLUMNS": "200"}
    with subprocess.Popen([*command, *words, *more], cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, start_new_session=True) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 90
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def steps(root: Path, pid: int) -> list[str]:
    """What each step of a process has left."""
    path = root / f"{pid}.steps"
    return path.read_text().splitlines() if path.is_file() else []


def checkpoints(root: Path) -> list[int]:
    return [int(path.stem.removeprefix("step-")) for path in root.glob(".rc2l/runs/*/step-*.ckpt")]


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def hashes(root: Path) -> dict[str, str]:
    files = (path for path in (root / "runs").rglob("*") if path.name in FILES)
    return {str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest() for path in files}


class Told(NamedTuple):
    """What was seen when a node died.

    Attributes:
        root: the checkout.
        lost: process of the training that was on it.
        left: whether it was still there some seconds later.
        code, output, errors: of the command.
    """

    root: Path
    lost: int
    left: bool
    code: int
    output: str
    errors: str


@pytest.fixture(scope="module")
def told(made, pair, tmp_path_factory) -> Told:
    root = tmp_path_factory.mktemp("killed")
    shutil.copytree(made, root, dirs_exist_ok=True)
    with running(root, 0, 1, address=pair.cluster.address, more=("--on", "ray")) as process:
        until(lambda: bool(pair.trainings(pair.second)), process)
        lost = pair.trainings(pair.second)[0]
        until(lambda: len(steps(root, lost)) > EVERY + 3, process)
        pair.cluster.remove_node(pair.second, allow_graceful=False)
        time.sleep(3)
        left = alive(lost)
        output, errors = process.communicate(timeout=120)
    return Told(root, lost, left, process.returncode, output, errors)


def test_a_grid_whose_node_died_has_the_bytes_of_an_unbroken_one(made, told, tmp_path):
    assert told.code == 0, told.errors
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    with running(tmp_path, 0, 1, more=("--jobs", "2")) as process:
        assert process.wait(120) == 0
    assert len(hashes(tmp_path)) == 2 * len(FILES)
    assert hashes(told.root) == hashes(tmp_path)


def test_no_training_outlives_its_node(told):
    assert not told.left


def test_no_more_is_done_twice_than_what_followed_the_checkpoint(told):
    before = set(steps(told.root, told.lost))
    others = [path.read_text().splitlines() for path in told.root.glob("*.steps") if path.stem != str(told.lost)]
    [after] = [set(lines) for lines in others if len(set(lines)) < STEPS]
    assert len(before | after) == STEPS
    assert len(before & after) <= EVERY


def test_the_command_says_what_became_of_each_run_and_nothing_else(told):
    lines = told.errors.splitlines()
    assert lines[0].startswith("2 runs on 2 nodes of Ray; logs in .rc2l/ray/")
    gone, done = (
        r"its node or its process there is gone: begins again at its checkpoint",
        f"done on {socket.gethostname()}",
    )
    said = sorted(
        re.sub(r"seed \d", "seed N", line).removeprefix("tiny 1_4 baselines/supervised ") for line in lines[1:]
    )
    assert said == [f"seed N: {done}", f"seed N: {done}", f"seed N: {gone}"]
    assert told.output.count("files: runs/tiny/1_4/baselines/supervised/") == 2


def test_after_ctrl_c_trainings_have_written_their_checkpoint_and_are_gone(made, pair, told, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    with running(tmp_path, 0, address=pair.cluster.address, more=("--on", "ray")) as process:
        until(lambda: len([*tmp_path.glob("*.steps")]) == 1, process)
        [training] = (int(path.stem) for path in tmp_path.glob("*.steps"))
        until(lambda: len(steps(tmp_path, training)) > 2, process)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert errors.splitlines()[1:] == ["1 runs are asked to stop, and write their checkpoints"]
    assert checkpoints(tmp_path) == [len(steps(tmp_path, training))]
    assert not alive(training)


def test_more_than_any_node_has_is_refused_before_anything_is_made(made, pair, told, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    tiny_data.write_yaml(tmp_path / "cluster.yaml", PLAIN | {"cpus": 64})
    with running(tmp_path, 0, address=pair.cluster.address, more=("--on", "ray")) as process:
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    said = (
        r"error: cluster\.yaml: a run gets 64 CPUs, 0 GPUs and 0\.5 GB of memory, and no node of the Ray cluster has "
    )
    assert re.fullmatch(
        rf"{said}as much; at most there are 1 CPUs, 0 GPUs and \S+ GB of memory: ask for less\n", errors
    )


def plan(**changes: Any) -> ClusterConfig:
    return ClusterConfig.model_validate_json(json.dumps(PLAIN | changes))


def test_one_node_has_to_have_all_that_a_run_gets():
    nodes = [{"CPU": 8.0, "memory": 1e9}, {"CPU": 2.0, "GPU": 1.0, "memory": 8e9}]
    check_request(nodes, plan(cpus=2, gpus=1, memory_gb=8))
    with pytest.raises(UsageError, match=r"at most there are 8 CPUs, 1 GPUs and 8 GB of memory"):
        check_request(nodes, plan(cpus=8, gpus=1))


def test_ray_gives_a_run_one_node():
    with (
        pytest.raises(UsageError, match=r"cluster.yaml: nodes: Ray gives a run one node"),
        open_ray(plan(nodes=2, processes=2)),
    ):
        pytest.fail("entered")


@pytest.fixture
def here(made, monkeypatch) -> None:
    monkeypatch.chdir(made)
    monkeypatch.setattr("rc2l_bench.data.datasets.registry.names", lambda: ["tiny"])
    for name in SETTINGS:
        monkeypatch.setenv(name, "0")  # so that they are as before when the test is over


RUN = ("run", "--method", "supervised", "--split", "1_4", "--dataset", "tiny", "--on", "ray")


def test_without_ray_one_is_told_how_to_get_it(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refused(*RUN) == "error: Ray is not installed: pip install 'rc2l-bench[ray]', or leave out --on ray"


def test_a_cluster_that_does_not_answer_is_told_of_at_once(here):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        code, text = call(*RUN, RAY_ADDRESS=address)
    assert code == 1
    assert text.startswith(f"error: RAY_ADDRESS: {address}: no answer (")
    assert text.count("\n") == 1
