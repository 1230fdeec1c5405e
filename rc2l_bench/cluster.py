"""What a run gets of a cluster: the typed form of cluster.yaml. Nothing here makes a number."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from rc2l_bench.bounds import Count, Processes, Text
from rc2l_bench.errors import UsageError
from rc2l_bench.runtime import Runtime
from rc2l_bench.schema import Model, load

FILE = Path("cluster.yaml")

Queue = Annotated[str, Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.,-]*)?$", max_length=200)]
"""Name of a partition or an account, or several with commas; empty = the cluster's default."""
Option = Annotated[str, Field(pattern=r"^--[a-z][a-z-]*(=[^\x00-\x1f\x7f]*)?$", max_length=1000)]


class ClusterConfig(Model):
    """What one run gets of a cluster, whatever engine asks for it."""

    partition: Queue
    account: Queue
    nodes: Annotated[int, Field(ge=1, le=1024)]
    """Of a run; `gpus`, `cpus` and `memory_gb` are those of each."""
    gpus: Annotated[int, Field(ge=0, le=1024)]
    cpus: Count
    memory_gb: Annotated[float, Field(gt=0, le=1_000_000)]
    hours: Annotated[float, Field(ge=1 / 60, le=8760)]
    """After which a job ends; Slurm counts in minutes."""
    notice_seconds: Annotated[int, Field(ge=1, le=65535)]
    """Before the end of a job, when its training is told to write a checkpoint."""
    at_once: Annotated[int, Field(ge=0, le=1_000_000)]
    """Runs at a time; 0 = no limit of ours."""
    processes: Processes
    """Of a run, on all of its nodes."""
    setup: list[Text]
    """Lines of shell before each run."""
    options: list[Option]
    """Further words for the engine's own command."""

    def script(self, command: Sequence[str]) -> str:
        """What runs on a node: the user's own lines, and a command in the place of the shell, which gets its signals.

        Args:
            command: program and arguments.
        """
        return "\n".join(["#!/bin/bash", "set -e", *self.setup, f"exec {shlex.join(command)}", ""])


def load_cluster(runtime: Runtime, path: Path = FILE) -> ClusterConfig:
    """Read cluster.yaml.

    Args:
        runtime: of params.yaml, whose number of processes takes part in the fingerprint.
        path: the file.

    Raises:
        UsageError: it is missing, wrong, or asks for another number of processes than params.yaml or for one that
            its nodes cannot share.
    """
    cluster = load(ClusterConfig, path)
    if cluster.processes != runtime.devices:
        raise UsageError(
            f"{path}: processes is {cluster.processes}, and runtime.devices of params.yaml is {runtime.devices}: make "
            "them equal, since a run of several processes is told from a run of one"
        )
    if cluster.processes % cluster.nodes:
        raise UsageError(f"{path}: {cluster.processes} processes do not spread evenly over {cluster.nodes} nodes")
    return cluster
