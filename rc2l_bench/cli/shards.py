"""`rc2l-bench shards`: folders of shards, for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rc2l_bench.console import console, guarded

app = typer.Typer(no_args_is_help=True, help="Folders of shards: lists for other tools.")


@app.callback()
def shards() -> None:
    """Keep the names of commands, which typer leaves out where there is only one."""


@app.command()
@guarded
def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="With index.json: data/shards/shapes/pool.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for wids.json and sizes.json.")],
    base: Annotated[str, typer.Option(help="Folder or address that the tars will be read from.")] = "",
) -> None:
    """Write lists of the shards that the libraries wids and webdataset read; the tars stay where they are."""
    from rc2l_bench.data.shard_lists import export_lists
    from rc2l_bench.data.shards import Shards

    for path in export_lists(Shards(folder), out, base or None):
        console.print(f"{path}", markup=False, soft_wrap=True)
