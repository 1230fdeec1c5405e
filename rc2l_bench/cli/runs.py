"""`rc2l-bench runs`: the store of finished and unfinished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rc2l_bench.console import console, guarded

app = typer.Typer(no_args_is_help=True, help="The store: list, verify, prune, carry over.")


@app.command("list")
@guarded
def list_() -> None:
    """List the runs of the store: what was run, whether a result uses it, its size and age."""
    from rich.markup import escape
    from rich.table import Table

    from rc2l_bench.run.upkeep import list_runs

    table = Table("fingerprint", "cell", "state", box=None, pad_edge=False)
    for column in ("MB", "days old"):
        table.add_column(column, justify="right")
    found = list_runs()
    for run in found:
        state = ("used" if run.used else "finished") if run.finished else "unfinished"
        table.add_row(run.name[:12], escape(run.cell), state, f"{run.bytes / 1e6:.1f}", f"{run.age:.1f}")
    console.print(table)
    console.print(f"{len(found)} runs, {sum(run.bytes for run in found) / 1e6:,.1f} MB", markup=False)


@app.command()
@guarded
def verify() -> None:
    """Read every finished run again and compare each byte with its hash."""
    from rc2l_bench.run.upkeep import list_runs, verify_runs

    wrong = 0
    names = [run.name for run in list_runs() if run.finished]
    for _, fault in verify_runs(names):
        if fault:
            wrong += 1
            console.print(fault, markup=False, soft_wrap=True)
    console.print(f"{len(names) - wrong} of {len(names)} finished runs are as they were written", markup=False)
    if wrong:
        raise typer.Exit(1)


@app.command()
@guarded
def prune(
    days: Annotated[float, typer.Option(min=0, help="Keep what was written in the last days.")] = 7.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only say what would be removed.")] = False,
) -> None:
    """Remove runs that no result under runs/ uses: former results, trials of tuning, trainings that were given up."""
    from rc2l_bench.run.upkeep import list_runs, prunable
    from rc2l_bench.run.upkeep import prune as remove

    chosen = prunable(list_runs(), days)
    if yes:
        gone = set(remove(chosen))
        chosen = [run for run in chosen if run.name in gone]
    size = sum(run.bytes for run in chosen) / 1e6
    what = "removed" if yes else "would be removed; --yes removes them"
    console.print(f"{len(chosen)} runs, {size:,.1f} MB: {what}", markup=False)


@app.command()
@guarded
def carry(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT…", help="runs/<dataset>/<split>/<method>/seed<k>")],
    reason: Annotated[str, typer.Option(help="Why the change moves no number; shown in every report.")],
) -> None:
    """Take finished runs over to the present fingerprint, after a change that moves no number."""
    from rc2l_bench.run.upkeep import carry_over

    for result in results:
        name = carry_over(result, reason)
        console.print(f"{result}: now {name[:12]}; the next `rc2l-bench run` hands it out", markup=False)
