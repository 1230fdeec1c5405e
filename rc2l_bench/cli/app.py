"""Command line `rc2l-bench`: choose cells, carry them out, show the results. No option changes a number.

What takes time to import is imported inside of the commands, so that help and errors come in a fraction of a second.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from rc2l_bench import __version__
from rc2l_bench.cli import cost, data, evidence, export, init, jobs, predict, report, runs, shards, split, tune, watch
from rc2l_bench.cli.forecast import order_cells, show_forecasts
from rc2l_bench.cli.grids import choose_grid, combine_cells
from rc2l_bench.cli.jobs import Engine, On, joined, submit
from rc2l_bench.console import console, guarded, one_line_errors
from rc2l_bench.errors import BenchError, UsageError, suggest
from rc2l_bench.files import require_checkout
from rc2l_bench.run.object_store import VARIABLE, open_store
from rc2l_bench.run.pipeline import carry_out_cells, cell_stages
from rc2l_bench.run.process_pool import count_jobs
from rc2l_bench.variants import describe_method, find_methods, variants_of

if TYPE_CHECKING:
    from rc2l_bench.config import Params

app = typer.Typer(
    name="rc2l-bench",
    help="Semi-supervised semantic segmentation, compared fairly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data", help="Data sets: fetch, status, verify, add.")
app.add_typer(split.app, name="split", help="Splits: make, import, describe, compare.")
app.add_typer(shards.app, name="shards", help="Folders of shards: lists for other tools.")
app.add_typer(runs.app, name="runs", help="The store and evidence: list, verify, prune, carry over, export.")
app.command()(report.report)
app.command()(evidence.evidence)
app.command()(cost.cost)
app.command()(tune.tune)
app.command()(jobs.jobs)
app.command()(watch.watch)
app.command()(predict.predict)
app.command()(export.export)
app.command()(init.init)


Jobs = Annotated[int, typer.Option(min=0, help="Trainings at a time; 0 = as many as there are cores for.")]


@app.command()
@guarded
def run(
    method: Annotated[
        list[str], typer.Option(help="Id of a method, or the tail of one: rc2l, cps; its variant: cps@plain.")
    ] = [],  # noqa: B006
    split: Annotated[list[str], typer.Option(help="Labelled images: 1_16, 1_4, full, or a published list.")] = [],  # noqa: B006
    dataset: Annotated[list[str], typer.Option(help="Data set.", show_default="shapes")] = [],  # noqa: B006
    seed: Annotated[
        list[int],
        typer.Option(
            min=0,
            max=2**53 - 1,
            show_default="0",
            help="Seed of the draw of labels, initialisation, order and augmentation.",
        ),
    ] = [],  # noqa: B006
    grid: Annotated[bool, typer.Option("--grid", help="All cells of the grid in params.yaml.")] = False,
    named_grid: Annotated[str, typer.Option(help="All cells of one of the grids under `grids` in params.yaml.")] = "",
    jobs: Jobs = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be trained, why, and what it takes.")
    ] = False,
    on: On = Engine.local,
) -> None:
    """Train and evaluate cells: every combination of what is given. Repeat an option for several values."""
    from rc2l_bench.config import Params, load

    params = load(Params, Path("params.yaml"))
    if grid or named_grid:
        given = {"--method": method, "--split": split, "--dataset": dataset, "--seed": seed}
        wanted = choose_grid(params, grid, named_grid, [option for option, values in given.items() if values])
        dataset, split, method, seed = wanted.dataset, wanted.split, wanted.method, wanted.seed
    elif not (method and split):
        raise UsageError("which cells? give --method and --split, for instance --method rc2l --split 1_16, or --grid")
    dataset = dataset or ["shapes"]
    cells = combine_cells(dataset, split, method, seed or [0])
    for name in dataset:
        console.print(f"{name}: {params.describe_protocol(name)}", markup=False, soft_wrap=True)
    if dry_run:
        show_forecasts(cells, params, count_jobs(jobs, params.runtime.threads))
        return
    _start(cells, jobs, params, on)


@app.command()
@guarded
def ablate(
    study: Annotated[
        list[str], typer.Argument(help="Studies of params.yaml, for instance cumulative, alpha, queries.")
    ],
    jobs: Jobs = 1,
    on: On = Engine.local,
) -> None:
    """Train and evaluate studies: what a method scores with parts taken away, or with other numbers."""
    from rc2l_bench.config import Params, load

    params = load(Params, Path("params.yaml"))
    for name in study:
        if name not in params.ablation:
            raise UsageError(f"unknown study '{name}': {suggest(name, params.ablation)}")
    grids = [params.ablation[name] for name in study]
    cells = [cell for grid in grids for cell in combine_cells(grid.dataset, grid.split, grid.method, grid.seed)]
    once = list({tuple(cell.values()): cell for cell in cells}.values())  # studies share rows
    _start(once, jobs, params, on)


def _start(items: list[dict[str, str]], jobs: int, params: Params, on: Engine) -> None:
    """Give cells to what carries them out; Slurm is not waited for."""
    if on is Engine.local:
        places = count_jobs(jobs, params.runtime.threads)
        ordered = order_cells(items, params, places)
        _carry_out(items, lambda: carry_out_cells(ordered, places))
    elif on is Engine.ray:
        with joined(params.runtime) as engine:
            _carry_out(items, lambda: engine.carry_out_cells(items))
    elif submit(items, params.runtime):
        _show_results([(item, cell_stages(item)[-1].outs[0]) for item in items])


def _carry_out(items: list[dict[str, str]], carry_out: Callable[[], list[int]]) -> None:
    """Bring cells up to date by a function that returns exit codes, and show their results.

    Raises:
        typer.Exit: with the exit code of the first stage that failed; as in shells, 128 + the number of a signal that
            ended it, and 130 after Ctrl-C.
    """
    try:
        codes = carry_out()
    except KeyboardInterrupt:  # the stages that were running have said so
        raise typer.Exit(130) from None
    # Results are shown only if all are there: a table that lacks rows is easily taken for the whole.
    if failed := [code for code in codes if code != 0]:
        raise typer.Exit(failed[0] if failed[0] > 0 else 128 - failed[0])
    _show_results([(item, cell_stages(item)[-1].outs[0]) for item in items])


def _show_results(results: list[tuple[dict[str, str], Path]]) -> None:
    """Print the results of cells and the folders of their files."""
    from rc2l_bench.report.results import Cell, number, read_run

    table = Table(title="mIoU, %", caption="* best evaluation on the images it is scored on: optimistic")
    table.add_column("cell", overflow="fold")
    for column in ("labels", "val", "val best*", "test", "seconds", "MiB"):
        table.add_column(column, justify="right", no_wrap=True)
    for item, folder in results:
        cell = Cell(item["dataset"], item["split"], item["method"], int(item["seed"]))
        found = read_run(cell, folder, [])
        # What torch allocated, where that is known: resident memory has the libraries in it, equal for all methods.
        memory = [number(found.cost, "peak_memory", name) for name in ("allocated_mb", "resident_mb")]
        table.add_row(
            f"{cell.dataset} {cell.split} {cell.method.split('/')[-1]} seed {cell.seed}",
            str(found.record["split"]["labelled"]),
            _figure(100 * found.miou, 2),
            _figure(100 * found.miou_best, 2),
            _figure(100 * found.miou_test, 2),
            _figure(number(found.cost, "seconds"), 0),
            _figure(next((size for size in memory if math.isfinite(size)), math.nan), 0),
        )
    console.print(table)
    for _, folder in results:
        console.print(f"files: {escape(str(folder))}", soft_wrap=True)


def _figure(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


@app.command()
@guarded
def methods() -> None:
    """List the methods."""
    # Elsewhere the rivals are not there, and a list without them would look complete.
    require_checkout()
    table = Table()
    table.add_column("id", no_wrap=True)
    table.add_column("what it does")
    table.add_column("variants")
    for method in find_methods():
        table.add_row(method, escape(describe_method(method)), " ".join(f"@{v}" for v in variants_of(method)))
    console.print(table)


@app.command()
@guarded
def doctor(
    backbone: Annotated[
        str, typer.Option(help="Tell instead what a backbone of timm can do: strides, crops, weights.")
    ] = "",
) -> None:
    """Check what a benchmark needs: packages, DVC, git, memory, disk, mirror, weights."""
    if backbone:
        _describe_backbone(backbone)
        return
    table = Table("what", "found", "")
    for what, found, ok in _examine():
        table.add_row(what, escape(found), "[green]ok[/]" if ok else "[yellow]look[/]")
    console.print(table)


def _describe_backbone(name: str) -> None:
    from rc2l_bench.nets.examination import examine

    table = Table(show_header=False)
    for what, found in examine(name):
        table.add_row(what, escape(found))
    console.print(table)


def _examine() -> list[tuple[str, str, bool]]:
    """List what is needed, what was found, and whether that will do."""
    import psutil

    needed = ("torch", "torchvision", "timm", "kornia", "webdataset", "lightning_fabric", "safetensors")
    # Looked up, not imported: all of them together take many seconds.
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    mirror = os.environ.get("RC2L_BENCH_MIRROR", "")
    weights = os.environ.get("RC2L_BENCH_WEIGHTS", "")
    # None of the checks ends the command: what is missing may not be needed for what the user has in mind.
    free = shutil.disk_usage(Path()).free >> 30
    return [
        ("rc2l-bench", __version__, True),
        ("Python", sys.version.split()[0], sys.version_info >= (3, 11)),
        ("packages", "all there" if not missing else f"missing: {', '.join(missing)}", not missing),
        ("checkout", str(Path().resolve()), Path("dvc.yaml").is_file()),
        ("dvc", shutil.which("dvc") or "not on PATH: activate the venv", shutil.which("dvc") is not None),
        ("git", shutil.which("git") or "not on PATH", shutil.which("git") is not None),
        ("memory", f"{psutil.virtual_memory().available >> 30} GiB free", psutil.virtual_memory().available >> 30 >= 2),
        ("disk", f"{free} GiB free", free >= 5),
        ("cores", str(os.cpu_count()), True),
        (
            "RC2L_BENCH_MIRROR",
            mirror or "not set: official addresses only",
            "://" in mirror or not mirror or Path(mirror).is_dir(),
        ),
        ("RC2L_BENCH_WEIGHTS", weights or "not set", not weights or Path(weights).is_dir()),
        (VARIABLE, *_examine_store()),
    ]


def _examine_store() -> tuple[str, bool]:
    """Look into the store that machines share, and whether it answers."""
    try:
        store = open_store()
        if store is not None:
            store.list("doctor")
    except (BenchError, OSError) as error:
        return str(error), False
    return store.name if store else "not set: runs stay on this machine", True


@app.command()
def version() -> None:
    """Print the version."""
    console.print(__version__)


def main() -> None:
    """Run the console script; see `one_line_errors` for its exit codes."""
    with one_line_errors():
        # As `python -m` does for the stages: the rivals of a study lie here, not in a package of that name.
        if Path("dvc.yaml").is_file():
            sys.path.insert(0, str(Path.cwd()))
        app()
