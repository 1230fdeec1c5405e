"""`rc2l-bench runs`: the store of finished and unfinished runs, and folders of evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rc2l_bench.console import console, guarded
from rc2l_bench.errors import UsageError
from rc2l_bench.files import require_checkout

app = typer.Typer(
    no_args_is_help=True, help="The store: list, verify, prune, carry over; folders of evidence: export, verify."
)


@app.command("list")
@guarded
def list_() -> None:
    """List the runs of the store: what was run, whether a result uses it, its size and age."""
    from rich.markup import escape
    from rich.table import Table

    from rc2l_bench.run.upkeep import list_runs

    require_checkout()
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
def verify(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="[DIR]…", help="Folders of evidence.")] = None,
) -> None:
    """Compare each byte of every finished run with its hash: of the store, or of folders of evidence.

    Of evidence fingerprints are made again, too, of the parts that they are of, and scores of the counts per image.
    """
    checked, faults = _verify_store() if folders is None else _verify_folders(folders)
    for fault in faults:
        console.print(fault, markup=False, soft_wrap=True)
    console.print(f"{checked} finished runs: {f'{len(faults)} faults' if faults else 'all whole'}", markup=False)
    if faults:
        raise typer.Exit(1)


def _verify_store() -> tuple[int, list[str]]:
    from rc2l_bench.run.upkeep import list_runs, verify_runs

    require_checkout()
    names = [run.name for run in list_runs() if run.finished]
    return len(names), [fault for _, fault in verify_runs(names) if fault]


def _verify_folders(folders: list[Path]) -> tuple[int, list[str]]:
    from rc2l_bench.report.evidence import check_folder

    found = {folder: check_folder(folder) for folder in folders}
    if empty := [folder for folder, (count, _) in found.items() if not count]:
        raise UsageError(f"{empty[0]}: no run lies in <dataset>/<split>/<method id>/seed<k> there")
    return sum(count for count, _ in found.values()), [fault for _, faults in found.values() for fault in faults]


@app.command()
@guarded
def export(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of evidence; runs that lie there stay.")],
    dataset: Annotated[list[str] | None, typer.Option(help="Data set; all.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Split; all.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Method or variant: cps, cps@plain; all.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed; all.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the finished runs.")] = Path("runs"),
    pictures: Annotated[int, typer.Option(min=0, help="KB of pictures of a run at most.")] = 100,
) -> None:
    """Copy finished runs without their weights into a folder that can be committed, sent and merged."""
    from rc2l_bench.report.evidence_export import Choice, export_runs

    choice = Choice(dataset or (), split or (), method or (), seed or ())
    exported = list(export_runs(runs, out, choice, 1000 * pictures))
    new, size = sum(run.new for run in exported), sum(run.bytes for run in exported)
    largest = max(run.bytes for run in exported) / 1000
    console.print(
        f"{out}: {len(exported)} runs, {new} of them new, {size / 1e6:.1f} MB, the largest has {largest:,.0f} KB",
        markup=False, soft_wrap=True,
    )  # fmt: skip


@app.command()
@guarded
def prune(
    days: Annotated[float, typer.Option(min=0, help="Keep what was written in the last days.")] = 7.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only say what would be removed.")] = False,
) -> None:
    """Remove runs that no result under runs/ uses: former results, trials of tuning, trainings that were given up."""
    from rc2l_bench.run.upkeep import list_runs, prunable
    from rc2l_bench.run.upkeep import prune as remove

    require_checkout()
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
