"""`rc2l-bench watch`: the trainings that run on this machine, as a table that moves."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from rc2l_bench.console import console, guarded
from rc2l_bench.run.store import STORE

if TYPE_CHECKING:
    from rc2l_bench.run.running import RunningRun

REFRESH = 1.0
"""Seconds between two looks."""
STYLES = {"running": "green", "quiet": "yellow", "stopped": "red"}
NOTHING = f"no training runs here, as far as {STORE} knows: start one with rc2l-bench run"


@guarded
def watch(
    once: Annotated[bool, typer.Option("--once", help="Show the table once and end.")] = False,
    every_host: Annotated[bool, typer.Option("--every-host", help="Also of other machines that share the store.")] = (
        False
    ),
) -> None:
    """Watch the trainings that run on this machine; Ctrl-C ends the watching and nothing else."""
    from rc2l_bench.run.running import find_running

    if once or not console.is_terminal:
        found = find_running(STORE, every_host)
        console.print(draw_table(found) if found else NOTHING)
        return
    try:
        with Live(console=console, auto_refresh=False, screen=False) as live:
            while True:
                found = find_running(STORE, every_host)
                live.update(draw_table(found) if found else NOTHING, refresh=True)
                time.sleep(REFRESH)
    except KeyboardInterrupt:
        return


def draw_table(found: list[RunningRun]) -> Table:
    """Draw trainings as rows, with what is left of them; one that was killed says where it stopped."""
    table = Table("cell", box=None, pad_edge=False)
    for column in ("step", "%", "loss", "mIoU", "images/s", "left", "MiB", "state"):
        table.add_column(column, justify="right", no_wrap=True)
    now = time.time()
    for run in found:
        state = run.state(now)
        live = state != "stopped"
        table.add_row(
            escape(run.title),
            f"{run.step}/{run.steps}",
            f"{100 * run.step / run.steps:.0f}",
            _figure(run.loss, 3),
            _figure(None if run.miou is None else 100 * run.miou, 1),
            f"{run.images_per_second:.0f}" if live else "–",
            _duration(run.seconds_left - (now - run.noted)) if live else "–",
            _figure(run.memory(), 0),
            f"[{STYLES[state]}]{state}[/]",
        )
    return table


def _figure(value: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "–"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=max(0, round(seconds))))
