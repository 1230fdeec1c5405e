"""`rc2l-bench data`: which data sets there are, bringing them, checking them, adding one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rc2l_bench.console import console, guarded
from rc2l_bench.errors import UsageError
from rc2l_bench.files import require_checkout

RAW = Path("data/raw")
SHARDS = Path("data/shards")
UNFINISHED = {".part", ".own", ".tmp"}
"""Suffixes of what lies beside the files of a data set and is none of them."""

app = typer.Typer(no_args_is_help=True, help="Data sets: fetch, list, verify, add your own.")

Name = Annotated[str, typer.Argument(metavar="DATASET", help="A data set of `rc2l-bench data status`.")]


@app.command()
@guarded
def fetch(dataset: Name) -> None:
    """Download, generate or find a data set; continues what was cut off."""
    from rc2l_bench.data.datasets.registry import load_dataset

    require_checkout()
    load_dataset(dataset).prepare(RAW / dataset)
    console.print(f"{dataset}: ready in {RAW / dataset}", markup=False)


@app.command()
@guarded
def verify(dataset: Name) -> None:
    """Read all files and shards of a data set again and compare every byte with its checksum."""
    from rc2l_bench.data import packing
    from rc2l_bench.data.datasets.registry import load_dataset

    require_checkout()
    load_dataset(dataset).verify(RAW / dataset)
    packed = sorted(index.parent for index in (SHARDS / dataset).rglob("index.json"))
    for folder in packed:
        packing.verify(folder)
    console.print(f"{dataset}: every file is as expected, and so are {len(packed)} folders of shards", markup=False)


@app.command()
@guarded
def status() -> None:
    """List the data sets: what is here, its size and licence, and where it comes from."""
    from rich.markup import escape
    from rich.table import Table

    from rc2l_bench.data.datasets.registry import names

    require_checkout()
    table, origins = Table("dataset", "here", "size", "licence", box=None, pad_edge=False), list[str]()
    for name in names():
        cells, found = _status(name)
        table.add_row(*map(escape, cells))
        origins += [f"{name}: {origin}" for origin in found]
    console.print(table)
    # Not in the table: a column would break addresses, and half an address is none.
    console.print(*origins, sep="\n", markup=False, soft_wrap=True)


@app.command()
@guarded
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    images: Annotated[list[str], typer.Option(help="Folder or glob of images; the last * is the id. Repeatable.")] = [],  # noqa: B006
    masks: Annotated[list[str], typer.Option(help="Folder or glob of PNG masks; they are no images. Repeatable.")] = [],  # noqa: B006
    unlabelled: Annotated[
        list[str], typer.Option(help="Pool of images without masks: folder, tars, shards or address. Repeatable.")
    ] = [],  # noqa: B006
    extends: Annotated[str, typer.Option(help="Another data set that the pool is added to, instead of images.")] = "",
    classes: Annotated[str, typer.Option(help="Names of the classes 0, 1, 2, … with commas between.")] = "",
    values: Annotated[str, typer.Option(help="Mask values and their classes, 7=road,11=building.")] = "",
    reduce_zero_label: Annotated[bool, typer.Option(help="Value 0 is ignored; 1, 2, … are the classes.")] = False,
    exclude: Annotated[list[str], typer.Option(help="Folder or glob of what is neither. Repeatable.")] = [],  # noqa: B006
    ids: Annotated[str, typer.Option(help="`path`: folders that * or ** stand for belong to the id.")] = "",
    colours: Annotated[str, typer.Option(help="One #rrggbb for each class, with commas between.")] = "",
    colour_masks: Annotated[bool, typer.Option(help="Masks hold these colours instead of class indices.")] = False,
    tolerance: Annotated[int, typer.Option(help="How far a channel of these colours may be off.")] = 0,
    ignore: Annotated[str, typer.Option(help="Mask values or #rrggbb that are ignored like 255, or `others`.")] = "",
    val: Annotated[float, typer.Option(help="Share of the images with a mask for validation.")] = 0.2,
    test: Annotated[float, typer.Option(help="Share for the final test.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the draw of these shares.")] = 0,
    val_list: Annotated[str, typer.Option(help="File of validation images, instead of shares.")] = "",
    test_list: Annotated[str, typer.Option(help="File of test images.")] = "",
    train_list: Annotated[str, typer.Option(help="File of training images; without it, all the rest.")] = "",
    without_masks: Annotated[bool, typer.Option(help="Allow images without a mask, as training images.")] = False,
) -> None:
    """Describe your own images in datasets/NAME.yaml; nothing is copied. Further keys: datasets/README.md."""
    from rc2l_bench.data.datasets.folder_add import add_folder, colours_of, indices_of, listed, values_of
    from rc2l_bench.data.pool_add import check_places

    require_checkout()
    check_places(unlabelled)
    if extends or not (images or masks):
        if images or masks:
            raise UsageError("--extends takes the images of another dataset: leave --images and --masks out, or it")
        console.print(_add_pool(name, extends, unlabelled), markup=False, soft_wrap=True)
        return
    lists = {"val": val_list, "test": test_list, "train": train_list}
    description = {
        "images": images,
        "masks": masks,
        "exclude": exclude,
        "ids": ids,
        "classes": listed(classes),
        "values": values_of(values),
        "reduce_zero_label": reduce_zero_label,
        **_parts({"val": val, "test": test, "seed": seed}, lists),
        "colours": colours_of(colours),
        "masks_hold": "colours" if colour_masks else "",
        "tolerance": tolerance,
        "ignore": [] if colour_masks else "others" if ignore == "others" else indices_of(ignore),
        "ignore_colours": colours_of(ignore) if colour_masks else [],
        "unlabelled": without_masks,
        "pool": unlabelled,
    }
    path, counts, left = add_folder(name, {key: value for key, value in description.items() if value})
    found = ", ".join(f"{count} {part}" for part, count in counts.items())
    told = f"{path}: {found}; next: rc2l-bench run --dataset {name} --split 1_4 --method supervised"
    for line in filter(None, (left, told)):
        console.print(line, markup=False, soft_wrap=True)


def _parts(shares: dict[str, Any], lists: dict[str, str]) -> dict[str, Any]:
    """How images are divided: by lists where there is one, else by shares."""
    given = {part: file for part, file in lists.items() if file}
    return {"lists": given} if given else {"shares": shares}


def _add_pool(name: str, extends: str, places: list[str]) -> str:
    """Add a pool to a data set, or describe one that extends another; returns what to tell."""
    from rc2l_bench.data.pool_add import add_places, extend_dataset

    if not places:
        raise UsageError("what is to be added? give --images and --masks, or --unlabelled for a pool without masks")
    path = extend_dataset(name, extends, places) if extends else add_places(name, places)
    return f"{path}: {len(places)} added to its pool; next: rc2l-bench run --dataset {name} --split 1_16 --method rc2l"


def _status(name: str) -> tuple[list[str], list[str]]:
    """Name, whether it is here, size and licence; and where it comes from, or what is wrong with it."""
    from rc2l_bench.data.datasets.registry import load_dataset
    from rc2l_bench.errors import BenchError

    try:
        dataset = load_dataset(name)
    except BenchError as error:
        return [name, "wrong", "", ""], [str(error)]
    raw = RAW / name
    here = dataset.present(raw)
    files = [path for path in raw.rglob("*") if path.is_file() and path.suffix not in UNFINISHED] if here else []
    sizes = [path.stat().st_size for path in files]
    expected = [source.size for source in dataset.sources if source.size]
    size = sum(sizes) or sum(expected)
    cells = [name, "yes" if here else "no", f"{size / 1e6:,.0f} MB" if size else "-", dataset.licence or "-"]
    return cells, [source.url for source in dataset.sources]
