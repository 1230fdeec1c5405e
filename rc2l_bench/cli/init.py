"""`rc2l-bench init`: a study outside of a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rc2l_bench.console import console, guarded


@guarded
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New or empty; or a study that lacks .dvc.")],
) -> None:
    """Lay out a study: numbers, stages, rivals, splits, tuned numbers, as in a checkout."""
    from rc2l_bench.study import DVC, MARKS, begin_dvc, lay_out

    if not (all((folder / name).is_file() for name in MARKS) and not (folder / DVC).exists()):
        lay_out(folder)
    if not begin_dvc(folder):
        console.print(
            "DVC is not installed: rc2l-bench run works without; for dvc repro, pip install 'rc2l-bench[dvc]' and then "
            f"rc2l-bench init {folder} again",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    console.print(f"{folder}: a study; next: cd {folder} && rc2l-bench run --method rc2l --split 1_16", markup=False)
