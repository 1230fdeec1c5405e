"""Command `rc2l-bench cost`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from rc2l_bench.console import console, guarded

if TYPE_CHECKING:
    from rc2l_bench.config import Params, Protocol

GIB = 2**30
SHORT = {
    "parameters": "param", "gradients": "grad", "optimiser": "optim", "activations": "activ", "temporaries": "temp",
    "batch": "batch", "augment": "augm", "forward": "forw", "backward": "back", "optimise": "optim",
    "allocated_mb": "torch", "resident_mb": "resid",
}  # fmt: skip
"""Heads of columns, short enough for a table of 80 characters."""
MEASURED = (
    "Made-up images, fresh networks, thresholds at 0. torch: peak of torch's own allocations; resid: resident memory "
    "of the process. ×: multiples of the first row, in the same round."
)
RUNS = (
    "TFLOP of a step and of the evaluation of an image as large as any, images that are scored during the run, PFLOP "
    "of the run: a card that sustains 28 TFLOP/s does 100 PFLOP in an hour."
)
NOTE = (
    "Symbolic: torch's own allocations at the moment of the peak, by kind; no caching, no CUDA workspaces. Worst case: "
    "every image has {regions}, every region is matched, every mask selects all it could, memory banks fill up at once."
)


@guarded
def cost(
    symbolic: Annotated[bool, typer.Option("--symbolic", help="Estimate memory and FLOPs without running.")] = False,
    method: Annotated[list[str], typer.Option(help="Method; repeat it. Default: the grid's.")] = [],  # noqa: B006
    dataset: Annotated[str, typer.Option(help="Data set whose protocol and classes count.")] = "shapes",
    backbone: Annotated[str | None, typer.Option(help="Another backbone than the protocol's.")] = None,
    crop: Annotated[str | None, typer.Option(help="Another crop: 513 or 512x1024 (height x width).")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Labelled images, and as many unlabelled ones.")] = None,
    regions: Annotated[int | None, typer.Option(min=1, help="Symbolic: regions per image instead of the most.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Measured: processes per method, in turn.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Measured: timed steps per process.")] = 10,
    reference: Annotated[str, typer.Option(help="Method that ratios are taken against.")] = "supervised",
    recipes: Annotated[bool, typer.Option("--recipes", help="Symbolic: whole runs of all recipes of the set.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write all numbers here, as JSON.")] = None,
) -> None:
    """Compare memory and time of a training step, method by method, as multiples of the reference."""
    from rc2l_bench.config import Params, load
    from rc2l_bench.files import write_atomically

    params = load(Params, Path("params.yaml"))
    methods = _methods(method or params.grid.method, reference)
    protocol, classes = _protocol(params, dataset, backbone, crop, batch)
    title = f"{dataset}: {protocol.net.backbone}, {protocol.crop[0]}x{protocol.crop[1]}, batch {_batch(protocol)}"
    if recipes:
        numbers: dict[str, Any] = _dry_runs(methods, params, dataset, classes)
    elif symbolic:
        numbers = _estimate(methods, protocol, params, classes, regions, title)
    else:
        numbers = _measure(methods, protocol, params, classes, rounds, steps, title)
    if out:
        write_atomically(out, (json.dumps({"title": title, "methods": numbers}, indent=2) + "\n").encode())


def _table(title: str, columns: list[str], caption: str) -> Table:
    table = Table("method", title=title, caption=caption, box=None, padding=(0, 1, 0, 0), caption_justify="left")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _batch(protocol: Protocol) -> str:
    return f"{protocol.batch.labelled}+{protocol.batch.unlabelled}"


def _methods(names: list[str], reference: str) -> list[str]:
    """Resolve names to ids, each once, the reference first."""
    from rc2l_bench.variants import find_methods, resolve_method

    return list(dict.fromkeys(resolve_method(name, find_methods()) for name in [reference, *names]))


def _protocol(
    params: Params, dataset: str, backbone: str | None, crop: str | None, batch: int | None
) -> tuple[Protocol, int]:
    """Build the protocol that was asked for, and count the classes.

    Raises:
        UsageError: the data set is unknown, or the crop is not a size.
    """
    # Imported here, like whatever takes time, so that help and errors of the command line come at once.
    from rc2l_bench.cost.measurement import scale_protocol
    from rc2l_bench.data.datasets.registry import load_dataset
    from rc2l_bench.errors import UsageError

    sides = (crop or "").split("x")
    if crop and not (len(sides) <= 2 and all(side.isdecimal() and len(side) < 6 for side in sides)):
        raise UsageError(f"--crop: expected 513 or 512x1024, got '{crop}'")
    size = (int(sides[0]), int(sides[-1])) if crop else None
    return scale_protocol(params, dataset, backbone, size, batch), len(load_dataset(dataset).classes)


def _estimate(
    methods: list[str], protocol: Protocol, params: Params, classes: int, regions: int | None, title: str
) -> dict[str, Any]:
    """Estimate the methods, print a table of them, and return the answers by method."""
    from rc2l_bench.cost.measurement import estimate

    found = {}
    for method in methods:
        console.print(f"{method} …", style="dim")
        found[method] = estimate(method, protocol, classes, regions, params.runtime.levers)
    base = found[methods[0]]
    kinds = list(base["memory"])
    caption = NOTE.format(regions=f"{regions} regions" if regions else "as many regions as it could")
    names = [SHORT[kind] for kind in kinds]
    table = _table(f"{title}; GiB and TFLOP of a step", [*names, "peak", "×", "TFLOP", "×"], caption)
    for method, one in found.items():
        peak, reference = sum(one["memory"].values()), sum(base["memory"].values())
        cells = [f"{one['memory'][kind] / GIB:.2f}" for kind in kinds]
        cells += [f"{peak / GIB:.2f}", f"{peak / reference:.2f}"]
        cells += [f"{one['flops'] / 1e12:.2f}", f"{one['flops'] / base['flops']:.2f}"]
        table.add_row(method.split("/")[-1], *cells)
    console.print(table)
    return found


def _dry_runs(methods: list[str], params: Params, dataset: str, classes: int) -> dict[str, Any]:
    """Carry out dry runs of all recipes of a data set, print a table for each method, and return the numbers.

    Raises:
        UsageError: the data set has no recipes.
    """
    from rc2l_bench.cost.dry_run import dry_run
    from rc2l_bench.data.datasets import registry
    from rc2l_bench.errors import UsageError

    recipes = {
        name: [recipe for recipe in params.recipes if recipe.startswith(f"{name}_")] for name in registry.names()
    }
    if not recipes[dataset]:
        some = ", ".join(name for name in recipes if recipes[name])
        raise UsageError(f"--recipes: params.yaml has no recipe named {dataset}_…, but some of {some or 'no data set'}")
    data, found = registry.load_dataset(dataset), {}
    for method in methods:
        table = _table(f"{dataset}: {method}, whole runs", ["step", "image", "steps", "scored", "run"], RUNS)
        for name in recipes[dataset]:
            run = dry_run(method, params.recipes[name], classes, data.usual, data.counts["val"])
            cells = [f"{run.step / 1e12:.2f}", f"{run.image / 1e12:.2f}", f"{run.steps:,}", f"{run.images:,}"]
            table.add_row(name, *cells, f"{run.flops / 1e15:,.0f}")
            found[f"{method} {name}"] = {"step": run.step, "image": run.image, "run": run.flops}
        console.print(table)
    return found


def _measure(
    methods: list[str], protocol: Protocol, params: Params, classes: int, rounds: int, steps: int, title: str
) -> dict[str, Any]:
    """Measure the methods, print a table of them, and return the answers of all rounds by method."""
    from rc2l_bench.cost.measurement import PARTS, measure, middle, ratio, whole_training
    from rc2l_bench.report.formatting import duration

    with console.status("…") as status:
        found = measure(methods, protocol, params.runtime, classes, rounds=rounds, steps=steps, told=status.update)
    base = found[methods[0]]
    # Ratios are of the first kind: torch's own allocations, or where they are not known resident memory, in which the
    # libraries, equal for all, hide much of a difference.
    memory = [kind for kind in ("allocated_mb", "resident_mb") if kind in base[0]["peak_memory"]]
    columns = ["step", "×", "p95", *(SHORT[part] for part in PARTS), "img/s", SHORT[memory[0]], "×"]
    columns += [SHORT[kind] for kind in memory[1:]]
    table = _table(f"{title}; ms and MiB, medians over {rounds} processes", columns, MEASURED)
    for method, answers in found.items():
        step = ("step_seconds", "median")
        cells = [f"{1000 * middle(answers, *step):.0f}", f"{ratio(answers, base, *step):.2f}"]
        cells += [f"{1000 * middle(answers, 'step_seconds', 'p95'):.0f}"]
        cells += [f"{1000 * middle(answers, 'parts', part):.0f}" for part in PARTS]
        cells += [f"{middle(answers, 'images_per_second'):.1f}", f"{middle(answers, 'peak_memory', memory[0]):.0f}"]
        cells += [f"{ratio(answers, base, 'peak_memory', memory[0]):.2f}"]
        cells += [f"{middle(answers, 'peak_memory', kind):.0f}" for kind in memory[1:]]
        table.add_row(method.split("/")[-1], *cells)
    console.print(table)
    times = [
        f"{method.split('/')[-1]} {duration(whole_training(method, protocol, answers))}"
        for method, answers in found.items()
    ]
    console.print(f"Whole trainings at this pace, loading and evaluations left out: {', '.join(times)}")
    return found
