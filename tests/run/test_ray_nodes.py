"""Cells on a real Ray of two nodes on this machine, one of which is killed in the middle of a training."""

from __future__ import annotations

import contextlib
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

from rc2l_bench.run.ray_engine import SETTINGS
from rc2l_bench.schema import read_yaml

ray = pytest.importorskip("ray", reason="Ray is an extra: pip install 'rc2l-bench[ray]'")

pytestmark = pytest.mark.slow

PLAIN = read_yaml(tiny_data.ROOT / "cluster.yaml") | {"cpus": 1, "memory_gb": 0.5}
RUN = ("run", "--method", "supervised", "--split", "1_4", "--dataset", "tiny")
BOTH, ON = ("--seed", "0", "--seed", "1"), ("--on", "ray")
STEPS, EVERY = 40, 10
FILES = ("model.safetensors", "metrics.json", "history.csv")
COMMAND = """
from rc2l_bench.cli.app import main
from rc2l_bench.data.datasets import registry
from rc2l_bench.run import pipeline, ray_engine, tuning
registry.names = lambda: ["tiny"]  # whose data are there, and have no source
pipeline.carry_out_data = ray_engine.carry_out_data = lambda _: 0
tuning.prepare_data = lambda *_: None
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
        raylet, found = psutil.Process(node.all_processes["raylet"][0].process.pid), []
        for process in raylet.children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has just ended
                found += [process.pid] if "pipelines.train" in process.cmdline() else []
        return found


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
    tiny_data.write_checkout(root, protocol={"default": {"steps": STEPS}}, runtime={"checkpoint_every": EVERY},
                             tuning={"default": {"trials": 1}})  # fmt: skip
    tiny_data.write_data(root, "tuning-tiny", "1_2", seeds=[0])
    tiny_data.write_yaml(root / "cluster.yaml", PLAIN)
    method, place = root / "baselines/supervised.py", '"""Compute the one loss, on the labelled images."""\n'
    text = method.read_text()
    assert text.count(place) == 1
    method.write_text(text.replace(place, place + SLOW))
    (root / "command.py").write_text(COMMAND)
    return root


@contextmanager
def running(root: Path, *words: str, address: str = "") -> Iterator[subprocess.Popen[str]]:
    env = os.environ | {"RAY_ADDRESS": address, "COLUMNS": "200"}
    command = [sys.executable, "command.py", *words]
    with subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as process:  # fmt: skip
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
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


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
    with running(root, *RUN, *BOTH, *ON, address=pair.cluster.address) as process:
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
    found = re.search(r" seed (\d): its node", told.errors)
    with running(tmp_path, *RUN, "--seed", found[1]) as process:
        assert process.wait(120) == 0
    assert len(hashes(tmp_path)) == len(FILES)
    assert len(hashes(told.root)) == 2 * len(FILES)
    assert hashes(told.root).items() >= hashes(tmp_path).items()


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
    done = f"done on {socket.gethostname()}"
    assert sorted(re.sub(r"^.* seed \d: ", "", line) for line in lines[1:]) == [
        done, done, "its node or its process there is gone: begins again at its checkpoint",
    ]  # fmt: skip
    assert "raylet" not in told.output
    assert told.output.count("files: runs/tiny/1_4/baselines/supervised/") == 2


def test_after_ctrl_c_trainings_have_written_their_checkpoint_and_are_gone(made, pair, told, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    # So many that a busy machine does not come to their end before it passes the signal on.
    tiny_data.write_yaml(tmp_path / "params.yaml", tiny_data.params(protocol={"default": {"steps": 50 * STEPS}}))
    with running(tmp_path, *RUN, *ON, address=pair.cluster.address) as process:
        until(lambda: len([*tmp_path.glob("*.steps")]) == 1, process)
        [training] = (int(path.stem) for path in tmp_path.glob("*.steps"))
        until(lambda: len(steps(tmp_path, training)) > 2, process)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert errors.splitlines()[1:] == [
        "1 runs are asked to stop, and write their checkpoints",
        "interrupted; the same command continues where this one stopped",
    ]
    assert max(checkpoints(tmp_path)) == len(steps(tmp_path, training))
    assert not alive(training)


def test_more_than_any_node_has_is_refused_before_anything_is_made(made, pair, told, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    tiny_data.write_yaml(tmp_path / "cluster.yaml", PLAIN | {"cpus": 64})
    with running(tmp_path, *RUN, *ON, address=pair.cluster.address) as process:
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    said = (
        "error: cluster.yaml: a run gets 64 CPUs, 0 GPUs and 0.5 GB of memory, and no node of the Ray cluster has as "
    )
    assert errors.startswith(f"{said}much; at most there are 1 CPUs, 0 GPUs and ")
    assert errors.count("\n") == 1


def test_a_trial_is_carried_out_and_collected(made, pair, told, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    words = ("tune", "--dataset", "tiny", "--method", "supervised")
    with running(tmp_path, *words, *ON, address=pair.cluster.address) as process:
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert re.findall(r"^baselines/supervised trial (\d)/1: lr ", output, re.MULTILINE) == ["1"]
    assert (tmp_path / "tuned/tiny.yaml").is_file()
