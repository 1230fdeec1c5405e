"""`--on slurm` and `rc2l-bench jobs`: runs that a cluster carries out."""

from __future__ import annotations

import time
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from rc2l_bench.console import console, guarded

if TYPE_CHECKING:
    from rc2l_bench.run.array_jobs import Task
    from rc2l_bench.run.running import RunningRun
    from rc2l_bench.runtime import Runtime

REFRESH = 10.0
"""Seconds between two looks at the queue; a controller answers everybody."""
STYLES = {"waits": "yellow", "runs": "green", "done": "dim", "stopped": "red", "failed": "red"}
OPEN = ("waits", "runs")
NOTHING = "nothing was submitted from this checkout: rc2l-bench run --grid --on slurm does so"


class Engine(StrEnum):
    """What carries out runs."""

    local = "local"
    slurm = "slurm"


On = Annotated[Engine, typer.Option(help="What carries them out: this machine, or Slurm as cluster.yaml says.")]


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
    from rc2l_bench.cluster import load_cluster
    from rc2l_bench.run.array_jobs import submit_cells
    from rc2l_bench.run.slurm import check_partition, require_slurm

    # What is wrong is said before the data are made, which may take an hour.
    cluster = load_cluster(runtime)
    require_slurm()
    check_partition(cluster)
    sent = submit_cells(items, cluster)
    if sent.code:
        raise typer.Exit(sent.code if sent.code > 0 else 128 - sent.code)
    if sent.stored == len(items):
        return True
    jobs = f" as {', '.join(map(str, sent.jobs))}" if sent.jobs else ""
    console.print(
        f"{sent.tasks} runs submitted{jobs}, {sent.known} wait or run already, {sent.stored} are finished; "
        "`rc2l-bench jobs` shows them, and this command again their results",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    return False


@guarded
def jobs(
    every: Annotated[bool, typer.Option("--all", help="Show finished runs, too.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until none waits or runs; exit code 1 if one failed.")] = False,
) -> None:
    """Show what was submitted to a cluster: what waits, runs, is done, and what failed and why."""
    from rc2l_bench.run.array_jobs import list_tasks
    from rc2l_bench.run.running import find_running
    from rc2l_bench.run.slurm import require_slurm

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
    counts = Counter[str](task.standing for task in found)
    console.print(", ".join(f"{counts[name]} {name}" for name in STYLES if counts[name]))
    if wait and (counts["failed"] or counts["stopped"]):
        raise typer.Exit(1)


def draw_table(tasks: list[Task], running: list[RunningRun]) -> Table:
    """Draw tasks as rows; those that run with the steps that they have done."""
    steps = {run.title: f"{run.step}/{run.steps}" for run in running}
    table = Table("job", "cell", "state", "node", "step", "again", "why", box=None, pad_edge=False)
    for task in tasks:
        bad = task.standing in ("failed", "stopped")
        table.add_row(
            str(task.place),
            escape(task.title),
            f"[{STYLES[task.standing]}]{task.standing}[/]",
            escape(task.where),
            steps.get(task.title, "") if task.standing == "runs" else "",
            str(task.restarts or ""),
            escape(f"{task.why} ({task.log})" if bad else task.why),
        )
    return table
