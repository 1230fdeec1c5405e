"""`rc2l-bench export`: a trained network as one file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rc2l_bench.cli.predict import warn_of_changes
from rc2l_bench.console import console, guarded


@guarded
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a result with weights: runs/…/seed0")],
    kind: Annotated[Literal["onnx", "torch"], typer.Option("--format", help="Kind of the file.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="The file; left out: named after the run, here.")] = None,
) -> None:
    """Write the network as one file, pre-processing inside, with a JSON and a model card beside it."""
    from rc2l_bench.deployment.export import export_run, name_target
    from rc2l_bench.deployment.exported_network import require_packages
    from rc2l_bench.deployment.loading import load_run

    require_packages(kind)
    loaded = load_run(run, "cpu")
    target = name_target(loaded.name, kind, out)
    warn_of_changes(loaded)
    for path in export_run(loaded, kind, target):
        console.print(f"{path}", markup=False, soft_wrap=True)
