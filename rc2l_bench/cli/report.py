"""Command `rc2l-bench report`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rc2l_bench.console import console, guarded
from rc2l_bench.errors import UsageError

RUNS = Path("runs")
"""May be missing: the report then shows a grid without results."""


class Format(StrEnum):
    """Forms that a report can be printed in."""

    html = "html"
    latex = "latex"
    markdown = "markdown"
    csv = "csv"


@guarded
def report(
    reference: Annotated[str | None, typer.Option(help="Method that differences and ratios are taken against.")] = None,
    format: Annotated[  # noqa: A002 - the name of the option
        Format | None, typer.Option(help="Print one format instead of writing all of them into a folder.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the report (reports); with --format, the file instead of the terminal."),
    ] = None,
    runs: Annotated[
        list[Path] | None, typer.Option(help="Folder of runs or of evidence (runs); repeat it for several.")
    ] = None,
) -> None:
    """Make tables, figures and one HTML page from the finished runs."""
    from rc2l_bench.config import Params, load
    from rc2l_bench.files import write_atomically
    from rc2l_bench.report import writer
    from rc2l_bench.report.report import build

    root, *more = runs or [RUNS]
    for folder in (root, *more):
        if not folder.is_dir() and folder != RUNS:
            raise UsageError(f"--runs {folder}: no such folder")
    made = build(root, load(Params, Path("params.yaml")), reference, more)
    if format is None:
        folder = out or Path("reports")
        writer.write(made, folder)
        console.print(
            f"{folder / 'index.html'}, {', '.join(name for name in writer.FILES.values() if name != 'index.html')}"
        )
        return
    text = writer.compose(made, format.value)
    if out is None:
        sys.stdout.write(text)  # not through rich, which would wrap lines and take brackets for markup
    else:
        write_atomically(out, text.encode())
        console.print(str(out))
