"""`rc2l-bench split`: which images are labelled; drawing, importing, describing and comparing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rc2l_bench.console import console, guarded
from rc2l_bench.files import require_checkout

if TYPE_CHECKING:
    from rich.table import Column

    from rc2l_bench.data.catalog import Catalog
    from rc2l_bench.data.splits import Split

CATALOGS = Path("data/catalog")
OUT = Path("data/splits")

app = typer.Typer(no_args_is_help=True, help="Splits: draw, import, describe, compare.")

Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="A data set of `rc2l-bench data status`.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="1_16, 1_4, full, 1_16-s3 (seed 3), or a list.")]


@app.command()
@guarded
def make(dataset: Dataset, name: Name) -> None:
    """Draw a split, or look a list up, and write it to data/splits."""
    from rc2l_bench.data.splits import write

    split, _ = _resolve(dataset, name)
    path = OUT / dataset / f"{name}.json"
    write(split, path)
    console.print(f"{path}: {len(split.labelled)} labelled, {split.num_unlabelled} unlabelled", markup=False)


@app.command("import")
@guarded
def import_(
    dataset: Dataset,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A published list, or a new name for your own.")],
    file: Annotated[Path | None, typer.Argument(help="The list; left out: a mirror, or its repository.")] = None,
    unlabelled: Annotated[Path | None, typer.Option(help="List of unlabelled images; left out: all others.")] = None,
    drop_duplicates: Annotated[bool, typer.Option(help="Take images on both sides as labelled.")] = False,
) -> None:
    """Read a released list of labelled images, check it, and keep its ids in splits/."""
    from rc2l_bench.data.datasets.registry import load_dataset
    from rc2l_bench.data.split_import import import_list
    from rc2l_bench.data.split_lists import list_path

    split = import_list(
        dataset, name, _catalog(dataset), file=file, unlabelled=unlabelled, drop_duplicates=drop_duplicates,
        aliases=load_dataset(dataset).aliases(),
    )  # fmt: skip
    path = list_path(dataset, split.provenance["list"])
    console.print(f"{path}: {len(split.labelled)} labelled, {split.num_unlabelled} unlabelled", markup=False)


@app.command()
@guarded
def describe(dataset: Dataset, name: Name) -> None:
    """Show counts, pixels and images of each class, and the published split of nearest size."""
    from rich.markup import escape
    from rich.table import Table

    from rc2l_bench.data.split_lists import nearest
    from rc2l_bench.data.splits import images_with

    split, table = _resolve(dataset, name)
    total = sum(split.pixels.values())
    images = images_with(split, table)
    console.print(f"{dataset} {name}: {len(split.labelled)} labelled, {split.num_unlabelled} unlabelled", markup=False)
    console.print(f"id {split.id}", soft_wrap=True)
    console.print(", ".join(f"{key} {value}" for key, value in split.provenance.items()), markup=False, soft_wrap=True)
    if near := nearest(dataset, len(split.labelled)):
        console.print(f"nearest published split by count: {near}", markup=False)
    shown = Table("class", *_right("pixels", "share", "images"), box=None, pad_edge=False)
    for label, pixels in split.pixels.items():
        shown.add_row(escape(label), f"{pixels:,}", _percent(pixels, total), str(images[label]))
    console.print(shown)


@app.command()
@guarded
def compare(
    dataset: Dataset,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Two or more splits.")],
) -> None:
    """Show how many labelled images splits share, and how many have clean masks."""
    from rich.markup import escape
    from rich.table import Table

    from rc2l_bench.data.split_lists import published
    from rc2l_bench.data.splits import overlap
    from rc2l_bench.errors import UsageError

    if len(names) < 2:
        raise UsageError("split compare: name at least two splits")
    found = [_resolve(dataset, name)[0] for name in names]
    clean = _clean(dataset)
    shown = Table("", *_right("labelled", *names), box=None)
    if published(dataset).clean:
        shown.add_column("clean masks", justify="right")
    for split, row in zip(found, overlap(found), strict=True):
        count = len(split.labelled)
        cells = [f"{shared} ({_percent(shared, count)})" for shared in row]
        if clean is not None:
            shared = len(clean & set(split.labelled))
            cells.append(f"{shared} ({_percent(shared, count)})")
        shown.add_row(escape(split.name), str(count), *cells)
    console.print(shown)
    console.print("shares are of the split at the left")
    if clean is None and published(dataset).clean:
        console.print(f"for clean masks: rc2l-bench split import {dataset} {published(dataset).clean}", markup=False)


def _clean(dataset: str) -> set[str] | None:
    """Ids of the images with clean masks; None where the list is not known or not imported."""
    from rc2l_bench.data.split_lists import pinned, published

    name = published(dataset).clean
    found = pinned(dataset, name) if name else None
    return set(found.labelled) if found else None


def _catalog(dataset: str) -> Catalog:
    from rc2l_bench.data.catalog import read
    from rc2l_bench.data.datasets.registry import names
    from rc2l_bench.errors import UsageError, suggest

    require_checkout()
    if dataset not in names():
        raise UsageError(f"unknown dataset '{dataset}': {suggest(dataset, names())}")
    return read(CATALOGS / f"{dataset}.csv")


def _resolve(dataset: str, name: str) -> tuple[Split, Catalog]:
    from rc2l_bench.config import Params, load
    from rc2l_bench.data.split_import import resolve

    table = _catalog(dataset)
    return resolve(dataset, name, table, load(Params, Path("params.yaml")).split), table


def _right(*headers: str) -> list[Column]:
    from rich.markup import escape
    from rich.table import Column

    return [Column(escape(header), justify="right") for header in headers]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"
