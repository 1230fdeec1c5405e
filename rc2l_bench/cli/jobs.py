"""`--on slurm`, `--on ray` and `rc2l-bench jobs`: runs that a cluster carries out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from rc2l_bench.console import console, guarded
from rc2l_bench.files import require_checkout

if TYPE_CHECKING:
    from rc2l_bench.cluster import ClusterConfig
    from rc2l_bench.run.array_jobs import Sent, Task
    from rc2l_bench.run.ray_engine import RayEngine
    from rc2l_bench.run.running import RunningRun
    from rc2l_bench.runtime import Runtime

REFRESH = 10.0
"""Seconds between two looks at the queue; a controller answers everybody."""
STYLES = {"waits": "yellow", "runs": "green", "done": "dim", "stopped": "red", "failed": "red"}
OPEN = ("waits", "runs")
BAD = ("stopped", "failed")
NOTHING = "nothing was submitted from this checkout: rc2l-bench run --grid --on slurm does so"


class Engine(StrEnum):
    """What carries out runs."""

    local = "local"
    slurm = "slurm"
    ray = "ray"


On = Annotated[Engine, typer.Option(help="What carries them out: this machine, or Slurm or Ray as cluster.yaml says.")]


def submit(items: list[dict[str, str]], runtime: Runtime) -> bool:
    """Submit cells to Slurm, and say what is where.

    Args:
        items: the cells.
        runtime: of params.yaml.

    Returns:
        Whether all of them are finished already.

    Raises:
        typer.Exit: a stage of the data failed.
        UsageError: there is no Slurm here, or cluster.yaml is wrong.
        BenchError: Slurm refuses.
    """
    from rc2l_bench.run.array_jobs import submit_cells

    sent = submit_cells(items, find_cluster(runtime))
    if sent.code:
        raise typer.Exit(sent.code if sent.code > 0 else 128 - sent.code)
    if sent.tasks or sent.known:
        show_sent(sent, "this command again their results")
        return False
    return True


@contextmanager
def joined(runtime: Runtime) -> Iterator[RayEngine]:
    """Join the cluster of Ray for as long as the body runs, before anything is made.

    Raises:
        UsageError: there is no Ray here, or cluster.yaml is wrong or asks for more than any node has.
        BenchError: the cluster does not answer.
    """
    from rc2l_bench.cluster import load_cluster
    from rc2l_bench.run.ray_engine import open_ray

    with open_ray(load_cluster(runtime)) as engine:
        yield engine


def find_cluster(runtime: Runtime) -> ClusterConfig:
    """Look what is wrong with cluster.yaml and Slurm before anything is made, which may take an hour.

    Raises:
        UsageError: there is no Slurm here, or cluster.yaml is wrong.
        BenchError: Slurm does not answer.
    """
    from rc2l_bench.cluster import load_cluster
    from rc2l_bench.run.slurm import check_partition, require_slurm

    cluster = load_cluster(runtime)
    require_slurm()
    check_partition(cluster)
    return cluster


def show_sent(sent: Sent, later: str) -> None:
    """Say what was submitted, and what to type when it has ended."""
    jobs = f" as {', '.join(map(str, sent.jobs))}" if sent.jobs else ""
    console.print(
        f"{sent.tasks} runs submitted{jobs}, {sent.known} wait or run already, {sent.stored} are finished; "
        f"`rc2l-bench jobs` shows them, and {later}",
        markup=False, soft_wrap=True,
    )  # fmt: skip


@guarded
def jobs(
    every: Annotated[bool, typer.Option("--all", help="Show finished runs, too.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until none waits or runs; exit code 1 if one failed.")] = False,
) -> None:
    """Show what was submitted to a cluster: what waits, runs, is done, and what failed and why."""
    from rc2l_bench.run.array_jobs import list_tasks
    from rc2l_bench.run.running import find_running
    from rc2l_bench.run.slurm import require_slurm

    require_checkout()
    require_slurm()
    found = list_tasks()
    while wait and any(task.standing in OPEN for task in found):
        time.sleep(REFRESH)
        found = list_tasks()
    if not found:
        console.print(NOTHING)
        return
    shown = [task for task in found if every or task.standing != "done"]
    if shown:
        console.print(draw_table(shown, find_running(every_host=True)))
    for task in shown:
        if task.standing in BAD:  # not in the table, whose columns would break it and the name of the log
            console.print(f"{task.place} {task.title}: {task.why} ({task.log})", markup=False, soft_wrap=True)
    counts = Counter[str](task.standing for task in found)
    console.print(", ".join(f"{counts[name]} {name}" for name in STYLES if counts[name]))
    if wait and (any(counts[name] for name in BAD)):
        raise typer.Exit(1)


def draw_table(tasks: list[Task], running: list[RunningRun]) -> Table:
    """Draw tasks as rows; those that run with the steps that they have done."""
    steps = {run.title: f"{run.step}/{run.steps}" for run in running}
    table = Table(box=None, pad_edge=False)
    for column in ("job", "cell", "state", "node", "step", "again", "why"):
        table.add_column(column, no_wrap=column not in ("cell", "why"), overflow="fold")
    for task in tasks:
        table.add_row(
            str(task.place),
            escape(task.title),
            f"[{STYLES[task.standing]}]{task.standing}[/]",
            escape(task.where),
            steps.get(task.title, "") if task.standing == "runs" else "",
            str(task.restarts or ""),
            "" if task.standing in BAD else escape(task.why),
        )
    return table
