"""Runs that other machines carry out, whatever engine starts them: what is left to do, and what a machine does of it.

A machine makes sure that it would compute what was meant before it trains anything.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rc2l_bench.cluster import ClusterConfig
from rc2l_bench.errors import BenchError, PreemptedError
from rc2l_bench.files import say
from rc2l_bench.readers import read_json
from rc2l_bench.run.cell import open_cell
from rc2l_bench.run.far_runs import fetch_finished
from rc2l_bench.run.pipeline import Stage, run_program
from rc2l_bench.run.process_pool import KILLED
from rc2l_bench.run.store import STORE, Run
from rc2l_bench.run.trial_request import open_trial
from rc2l_bench.schema import Model
from rc2l_bench.variants import method_of

TRIAL = "rc2l_bench.run.trial"


class Assignment(Model):
    """What a machine has to do."""

    title: str
    """Data set, split, method, seed."""
    module: list[str]
    """Name of a module and its arguments."""
    expected: dict[str, Any]
    """Fingerprint of the run and every part of it, on the machine that gives it to others."""
    nodes: int
    processes: int
    """On all nodes."""

    @property
    def run(self) -> Run:
        """The run in the store of this machine."""
        return Run(STORE, self.expected["fingerprint"])

    @property
    def command(self) -> list[str]:
        """What carries it out on one machine."""
        return [sys.executable, "-m", *self.module]


class Outstanding(NamedTuple):
    """A training that is not in the store.

    Attributes:
        training: its stage.
        inputs: of the stage as they were when its run was named.
        assignment: for another machine.
    """

    training: Stage
    inputs: str
    assignment: Assignment

    def hand_out(self) -> bool:
        """Copy the finished run to where it is wanted; tell whether there is one, here or in the shared store."""
        run = self.assignment.run
        if not fetch_finished(run):
            return False
        with run.lock():
            run.materialise(self.training.outs[0])
        self.training.record(self.inputs)
        return True


def find_outstanding(trainings: Sequence[Stage], cluster: ClusterConfig) -> list[Outstanding]:
    """List the trainings that are not finished anywhere, and hand out the finished ones.

    Args:
        trainings: of cells whose data are up to date.
        cluster: what each run gets.
    """
    stale = [training for training in trainings if not training.fresh()]
    # The inputs first: sources that are edited meanwhile must not count as those of the run.
    found = (Outstanding(training, training.inputs(), assign(training.module, cluster)) for training in stale)
    return [one for one in found if not one.hand_out()]


def assign(module: Sequence[str], cluster: ClusterConfig) -> Assignment:
    """Name the run of a module and what it gets.

    Args:
        module: see `provenance_of`.
        cluster: what each run gets.
    """
    expected = provenance_of(module)
    cell = expected["cell"]
    title = f"{cell['dataset']} {cell['split']} {cell['method']} seed {cell['seed']}"
    title += f" trial {int(Path(module[1]).stem) + 1}" if module[0] == TRIAL else ""
    return Assignment(
        title=title, module=list(module), expected=expected, nodes=cluster.nodes, processes=cluster.processes
    )


def provenance_of(module: Sequence[str]) -> dict[str, Any]:
    """Name the run that a module would carry out in this place, with these sources and packages.

    Args:
        module: `pipelines.train` or `rc2l_bench.run.trial`, and its arguments.
    """
    if module[0] == TRIAL:
        return open_trial(read_json(Path(module[1]))).provenance()
    _, dataset, split, method, seed, shards, plan, _ = module
    return open_cell(dataset, split, method_of(method), int(seed), Path(shards), Path(plan)).provenance()


def carry_out(assignment: Assignment, command: Sequence[str]) -> int:
    """Carry out an assignment on this machine, once it is clear that it is the same run here.

    Args:
        assignment: what to do.
        command: that does it.

    Returns:
        The exit code of the command; a negative one is the signal that killed it.

    Raises:
        BenchError: this machine has other sources, packages or data.
        PreemptedError: asked to stop, this process or the training alone.
    """
    say(f"{assignment.title}, on {node_name()}")
    check_same(assignment.expected, provenance_of(assignment.module))
    code = run_program(command)
    if code == -signal.SIGKILL:
        say(f"error: {KILLED}")
    if code == PreemptedError.CONTINUE:  # the signal reached the training alone
        raise PreemptedError("")
    return code


def check_same(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Make sure that a run from here is the one that was submitted.

    Args:
        expected: provenance on the machine that submitted it.
        found: provenance here.

    Raises:
        BenchError: they differ; names in what.
    """
    if expected["fingerprint"] == found["fingerprint"]:
        return
    here = json.loads(json.dumps(found))  # as the other one was written
    changed = [_difference(name, part, here.get(name)) for name, part in expected.items() if part != here.get(name)]
    raise BenchError(
        f"{node_name()}: differs from where this was submitted: {'; '.join(filter(None, changed))}: a run from here "
        "would not be the same; give the nodes the same checkout and packages, or submit it again"
    )


def _difference(name: str, expected: Any, found: Any) -> str:  # noqa: ANN401 - parts are of any kind
    if name != "versions":
        return "" if name == "fingerprint" else f"other {name}"
    changed = (package for package in expected if expected[package] != found.get(package))
    return ", ".join(f"{package} {found.get(package)} instead of {expected[package]}" for package in changed)


def node_name() -> str:
    """What the engine, or else the machine itself, calls this machine."""
    return os.environ.get("SLURMD_NODENAME", socket.gethostname())
