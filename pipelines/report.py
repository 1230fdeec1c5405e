"""Stage `report`: turn finished runs into tables, figures and one page."""

from __future__ import annotations

from pathlib import Path

import typer

from rc2l_bench.config import Params, load
from rc2l_bench.console import console, guarded
from rc2l_bench.report import dvc_export
from rc2l_bench.report.report import build
from rc2l_bench.report.writer import TEMPLATES, write


@guarded
def main(runs: Path, out: Path) -> None:
    """Write the report of all runs in a folder.

    Args:
        runs: folder of `<dataset>/<split>/<method>/seed<k>`; runs outside of the grid are reported, too.
        out: folder of the report.
    """
    params = load(Params, Path("params.yaml"))
    report = build(runs, params)
    write(report, out, TEMPLATES)
    dvc_export.write(report.runs, out)
    done, declared = len(report.declared) - report.missing, len(report.declared)
    console.print(f"{done} of {declared} declared runs: {out / 'index.html'}")


if __name__ == "__main__":
    typer.run(main)
