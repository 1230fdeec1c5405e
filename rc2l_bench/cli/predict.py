"""`rc2l-bench predict`: masks of one's own photos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rc2l_bench.console import console, errors, guarded
from rc2l_bench.files import say

if TYPE_CHECKING:
    from rc2l_bench.deployment.loading import LoadedRun

ENOUGH = 0.99
"""Share of pixels on which a network must agree with its run's own pictures. Other machines round in another way, which
moves a pixel where two classes are as likely."""


@guarded
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a result with weights: runs/…/seed0")],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE…", help="Files, folders, patterns, http(s) addresses.")],
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("predictions"),
    overlay: Annotated[bool, typer.Option("--overlay", help="Also the photos with the classes over them.")] = False,
    confidence: Annotated[bool, typer.Option("--confidence", help="Also maps of how sure the network is.")] = False,
    fit: Annotated[bool, typer.Option("--fit", help="Scale larger photos down to the size the network knows.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
) -> None:
    """Predict the class of every pixel of photos: PNGs whose values are classes and that show the palette's colours."""
    from rc2l_bench.deployment.loading import load_run
    from rc2l_bench.deployment.photo_list import find_photos
    from rc2l_bench.deployment.prediction import PhotoPrediction
    from rc2l_bench.deployment.prediction_files import SHARES, Extras, require_own

    require_own(out)
    sources = find_photos(images, out)
    loaded = load_run(run, device)
    warn_of_changes(loaded)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as bar:
        task = bar.add_task(loaded.name, total=len(sources))

        def told(origin: str, fault: str) -> None:
            bar.advance(task)
            if fault:
                say(f"{origin}: {fault}")

        outcome = PhotoPrediction(loaded, out, Extras(overlay, confidence), fit=fit, told=told).carry_out(sources)
    for remark, count in outcome.remarks.items():
        say(f"{count} of {len(sources)} pictures: {remark}")
    done = len(outcome.done)
    console.print(f"{done} of {len(sources)} pictures: {out}, classes by picture in {out / SHARES}", markup=False)
    if outcome.failed:
        raise typer.Exit(1)


def warn_of_changes(loaded: LoadedRun) -> None:
    """Say so where the code or packages have changed and the network does not see any more what it saw in its run."""
    found = loaded.compare()
    if found.same < ENOUGH:
        say(
            f"{loaded.folder}: {found.changed} changed since this run was trained, and {1 - found.same:.1%} of the "
            "pixels of its first panel get another class now: its scores do not hold for what follows"
        )
