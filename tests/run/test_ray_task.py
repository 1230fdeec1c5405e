"""What a process of Ray's does, without Ray: the processes on the node are real."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny_data

from rc2l_bench.cluster import ClusterConfig
from rc2l_bench.errors import BusyError
from rc2l_bench.run import ray_task
from rc2l_bench.run.assignments import Assignment, assign
from rc2l_bench.run.ray_task import Ending, Errand, await_former, perform
from rc2l_bench.run.store import Run
from rc2l_bench.schema import read_yaml

PLAIN = read_yaml(tiny_data.ROOT / "cluster.yaml") | {"notice_seconds": 5}
MODULE = ["pipelines.train", "tiny", "1_4", "baselines/supervised", "0", "data/shards/tiny",
          "data/splits/tiny/1_4/seed0.json", "out"]  # fmt: skip
LOG = Path(".rc2l/ray/x/3.log")


@pytest.fixture
def node(checkout, monkeypatch) -> Assignment:
    """A checkout, and what is to be done there."""
    monkeypatch.chdir(checkout)
    return assign(MODULE, cluster())


def cluster(**changes: Any) -> ClusterConfig:
    return ClusterConfig.model_validate_json(json.dumps(PLAIN | changes))


def errand(assignment: Assignment, **changes: Any) -> Errand:
    base = Errand(assignment, 3, 0, Path.cwd(), Path(".rc2l/ray/x"), {"RC2L_BENCH_X": "1"}, cluster())
    return base._replace(**changes)


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_a_node_with_other_packages_computes_nothing(node):
    torch = node.expected["versions"]["torch"]
    other = node.expected | {"fingerprint": "f", "versions": node.expected["versions"] | {"torch": "1.0"}}
    ending = perform(errand(node.model_copy(update={"expected": other})))
    assert ending.code == 1
    assert f"differs from where this was submitted: torch {torch} instead of 1.0: a run from here" in ending.words
    assert not Path("out").exists()


def test_a_node_without_the_checkout_says_so(node, tmp_path):
    ending = perform(errand(node, checkout=tmp_path / "elsewhere"))
    assert (ending.code, ending.words) == (
        1, f"error: {tmp_path / 'elsewhere'}: not on this node: give all nodes the same checkout",
    )  # fmt: skip


def test_lines_of_set_up_come_first_and_the_variables_reach_them(node):
    lines = ['echo "$RC2L_BENCH_X $RC2L_BENCH_JOB $RC2L_BENCH_ATTEMPT"', "exit 7"]
    assert perform(errand(node, attempt=2, cluster=cluster(setup=lines))) == Ending(7, ray_task.node_name(), "1 x_3 2")


@pytest.mark.parametrize("trap", ["trap 'exit 75' TERM", "trap '' TERM"])
def test_a_task_that_is_cancelled_leaves_no_process(node, trap):
    """Ray raises KeyboardInterrupt in the main thread."""
    lines = [trap, "sleep 100 & echo $$ $! > pids", "while true; do sleep 0.1; done"]

    def cancel() -> None:
        while not (Path("pids").is_file() and Path("pids").read_text().strip()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=cancel).start()
    with pytest.raises(KeyboardInterrupt):
        perform(errand(node, cluster=cluster(setup=lines, notice_seconds=1)))
    end = time.monotonic() + 30  # a signal takes a moment
    while any(alive(int(pid)) for pid in Path("pids").read_text().split()):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_later_attempt_waits_until_the_former_one_has_gone(tmp_path, monkeypatch):
    run, waits = Run(tmp_path, "f"), []
    monkeypatch.setattr(ray_task, "POLL", 0.0)
    lock = Run.lock

    def busy(self: Run) -> Any:
        waits.append(1)
        if len(waits) < 3:
            raise BusyError("held")
        return lock(self)

    monkeypatch.setattr(Run, "lock", busy)
    await_former(run)
    assert len(waits) == 3
