"""Runs as tasks of Ray, for clouds and mixed machines: `rc2l-bench run --grid --on ray`.

A task is the same command for one cell, as a process of its own that ends with the worker of Ray that started it. A
task whose node dies starts again on another one, and its run continues where the store has it. A node needs the same
folder with the same checkout; where machines share no file system, `RC2L_BENCH_STORE` brings the results together.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc2l_bench.errors import BenchError, PreemptedError, UsageError
from rc2l_bench.files import say
from rc2l_bench.run.array_jobs import hand_out, provenance_of
from rc2l_bench.run.object_store import VARIABLE
from rc2l_bench.run.pipeline import Stage, carry_out_data, cell_stages
from rc2l_bench.run.signals import listening, prepare_child

if TYPE_CHECKING:
    from rc2l_bench.cluster import ClusterConfig

ADDRESS = "RAY_ADDRESS"
"""Names the cluster, as for every program of Ray."""
PASSED_ON = (VARIABLE, "RC2L_BENCH_MIRROR", "RC2L_BENCH_WEIGHTS")
"""Variables that tasks get from here; none of them is a secret, which nodes have of their own."""
RETRIES = 100
"""How often a task starts again: spot machines go away many times in a day, and nothing is computed twice."""
START = "from rc2l_bench.cli.app import main; main()"


class TakenAwayError(Exception):
    """The machine of a task is taken away; the same task continues elsewhere."""


def carry_out_on_ray(items: Sequence[Mapping[str, str]], cluster: ClusterConfig) -> list[int]:
    """Bring cells up to date: the stages of the data here, the trainings where Ray has room.

    Args:
        items: the cells.
        cluster: what each run gets.

    Returns:
        The exit code of every training; that of a stage of the data alone, where one fails.

    Raises:
        UsageError: Ray is not installed, or a run is to have several nodes.
        BenchError: the cluster is out of reach, or a run that a node has finished is not the one that was meant here.
        PreemptedError: this process was asked to stop; the trainings have been told, and have written checkpoints.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("Ray is not installed: pip install 'rc2l-bench[ray]'")
    if cluster.nodes > 1:
        raise UsageError(f"cluster.yaml: nodes is {cluster.nodes}: with Ray a run is on one node; use --on slurm")
    chains = [cell_stages(item) for item in items]
    if code := carry_out_data(chains):
        return [code]
    trainings = [chain[-1] for chain in chains]
    names = [provenance_of(training.module)["fingerprint"] for training in trainings]
    wanted = [index for index in range(len(items)) if not hand_out(trainings[index], names[index])]
    codes = [0] * len(items)
    if wanted:
        for index, code in zip(wanted, _carry_out([items[index] for index in wanted], cluster), strict=True):
            codes[index] = code or _collect(trainings[index], names[index])
    return codes


def _collect(training: Stage, name: str) -> int:
    """Hand out what a node has computed."""
    if not hand_out(training, name):
        raise BenchError(
            f"{training.outs[0]}: a node has finished it, but the run that was meant here ({name[:12]}) is not there: "
            f"set {VARIABLE} to a store that all machines reach, and give them the same checkout and packages"
        )
    return 0


def _carry_out(items: Sequence[Mapping[str, str]], cluster: ClusterConfig) -> list[int]:
    """Carry out cells as tasks; exit codes in their order."""
    ray: Any = importlib.import_module("ray")
    _connect(ray)
    try:
        _tell_if_too_large(ray, cluster)
        remote = ray.remote(
            num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=RETRIES, retry_exceptions=[TakenAwayError]
        )(carry_out_cell)
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        with listening():
            tasks = [remote.remote(dict(item), str(Path.cwd()), passed) for item in items]
            try:
                return [_wait(ray, task, item) for task, item in zip(tasks, items, strict=True)]
            except BaseException:
                for task in tasks:
                    ray.cancel(task)
                ray.wait(tasks, num_returns=len(tasks), timeout=cluster.notice_seconds)
                raise
    finally:
        ray.shutdown()


def _connect(ray: Any) -> None:  # noqa: ANN401 - a module that may not be installed
    address = os.environ.get(ADDRESS)
    try:
        if address:
            ray.init(address=address, logging_level="ERROR")
        else:
            ray.init(address="local", include_dashboard=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise BenchError(f"Ray: no cluster at {address or 'this machine'} ({reason}): look at {ADDRESS}") from None


def _tell_if_too_large(ray: Any, cluster: ClusterConfig) -> None:  # noqa: ANN401
    """Say that no node is large enough for a run: a cluster that grows may get one, others never do."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= cluster.cpus and node.get("GPU", 0) >= cluster.gpus for node in nodes):
        say(f"no node has {cluster.cpus} CPUs and {cluster.gpus} GPUs, as cluster.yaml asks for: waiting for one")


def _wait(ray: Any, task: Any, item: Mapping[str, str]) -> int:  # noqa: ANN401
    """The exit code of a task."""
    try:
        return int(ray.get(task))
    except ray.exceptions.RayError as error:
        say(f"{' '.join(item.values())}: {type(error).__name__}: {' '.join(str(error).split())[:160]}")
        return 1


def carry_out_cell(item: Mapping[str, str], folder: str, passed: Mapping[str, str]) -> int:
    """Carry out one cell on a node: what a task does.

    Args:
        item: the cell.
        folder: of the checkout, on the node.
        passed: variables of the environment.

    Returns:
        The exit code of the command.

    Raises:
        TakenAwayError: it was asked to stop, and the same command continues.
    """
    options = [word for name, value in item.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-c", START, "run", *options]
    env = os.environ | passed | {"TERM": "dumb"}
    process = subprocess.Popen(command, cwd=folder, env=env, preexec_fn=prepare_child(os.getpid()))
    try:
        code = process.wait()
    except BaseException:  # cancelled
        process.terminate()
        process.wait()
        raise
    if code == PreemptedError.CONTINUE:
        raise TakenAwayError
    return code
