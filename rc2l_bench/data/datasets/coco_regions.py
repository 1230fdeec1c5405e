"""Regions of COCO's images: from half a gigabyte of JSON to a table on the disk, and from there to one image's regions.

As Python objects the JSON has several gigabytes, and its regions are not sorted by image. So it is read piece by piece,
once, and what is wrong with it is found then.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rc2l_bench.data.archives import AGAIN
from rc2l_bench.data.datasets.members import ZipMembers
from rc2l_bench.readers import DamagedFileError, first_line, reading

MOST_JSON = 1 << 30
"""Bytes of the annotations of a part; those of train have 449 MB."""
_SCHEMA = (
    "CREATE TABLE images (part TEXT, id INTEGER, height INTEGER, width INTEGER, PRIMARY KEY (part, id)) WITHOUT ROWID",
    "CREATE TABLE regions (part TEXT, image INTEGER, label INTEGER, crowd INTEGER, outline TEXT)",
)
_BLANKS = {"images": "?, ?, ?, ?", "regions": "?, ?, ?, ?, ?"}
_ANEW = "delete it and run the same command again"
_INDEX = "CREATE INDEX by_image ON regions (part, image)"


class Region(NamedTuple):
    """A region of an image.

    Attributes:
        label: of its class.
        crowd: whether it is a group of objects that nobody told apart.
        outline: as in the JSON: polygons, lists of x and y in turn, or a mask as run lengths.
    """

    label: int
    crowd: bool
    outline: Any


def write_regions(
    archive: ZipMembers, members: Mapping[str, str], labels: Mapping[int, int], names: Mapping[int, str],
    most: tuple[int, int], target: Path,
) -> None:  # fmt: skip
    """Make the table of a few parts, in memory that does not grow with them.

    Args:
        archive: with the annotations.
        members: file by part.
        labels: label by number of category.
        names: name by number of category, as the files must have them.
        most: height and width that an image may have.
        target: of the table; must not exist.

    Raises:
        DamagedFileError: a file is no such JSON, has other categories, or says what cannot be.
    """
    with _database(target, target.absolute().as_uri()) as table:
        for statement in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", *_SCHEMA):
            table.execute(statement)
        for part, name in members.items():
            with reading(f"{archive.path}: {name}", AGAIN):
                _check_categories(archive, name, names)
                _fill(table, "images", (_image(item, part, most) for item in _items(archive, name, "images")))
                _fill(table, "regions", (_region(item, part, labels) for item in _items(archive, name, "annotations")))
                _check_owners(table, part)
        table.execute(_INDEX)
        table.commit()


def _fill(table: sqlite3.Connection, name: str, rows: Iterator[tuple[Any, ...]]) -> None:
    """Puts rows into the table of a name, one at a time in memory."""
    try:
        table.executemany(f"INSERT INTO {name} VALUES ({_BLANKS[name]})", rows)  # noqa: S608 - names are ours
    except sqlite3.IntegrityError:
        raise ValueError(f"{name} are there twice") from None


def _check_owners(table: sqlite3.Connection, part: str) -> None:
    question = (
        "SELECT image FROM regions WHERE part = ? AND image NOT IN (SELECT id FROM images WHERE part = ?) LIMIT 1"
    )
    if lost := table.execute(question, (part, part)).fetchone():
        raise ValueError(f"a region is of image {lost[0]}, which is not there")


class RegionTable:
    """A table that `write_regions` made; see `open_regions`."""

    def __init__(self, path: Path, table: sqlite3.Connection) -> None:
        """Take an open table.

        Args:
            path: of it, for messages.
            table: open for reading.
        """
        self._path, self._table = path, table

    def sizes(self, part: str) -> dict[int, tuple[int, int]]:
        """Height and width of the images of a part, by number, sorted."""
        rows = self._table.execute("SELECT id, height, width FROM images WHERE part = ? ORDER BY id", (part,))
        return {row[0]: (row[1], row[2]) for row in rows}

    def of_image(self, part: str, image: int) -> list[Region]:
        """The regions of an image, in the order of the JSON."""
        question = "SELECT label, crowd, outline FROM regions WHERE part = ? AND image = ? ORDER BY rowid"
        rows = self._table.execute(question, (part, image)).fetchall()
        with reading(self._path, _ANEW):
            return [Region(label, bool(crowd), json.loads(outline)) for label, crowd, outline in rows]


@contextmanager
def open_regions(path: Path) -> Iterator[RegionTable]:
    """Open a table that `write_regions` made.

    Raises:
        DamagedFileError: it is missing, or no such table.
    """
    with _database(path, f"{path.absolute().as_uri()}?mode=ro&immutable=1") as table:
        yield RegionTable(path, table)


@contextmanager
def _database(path: Path, address: str) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(address, uri=True)) as table:
            yield table
    except sqlite3.Error as error:
        raise DamagedFileError(f"{path}: {first_line(error)}: {_ANEW}") from None


def _items(archive: ZipMembers, name: str, key: str) -> Iterator[Any]:
    """The entries of a list of the JSON, one at a time in memory."""
    import ijson

    with archive.stream(name, MOST_JSON) as file:
        try:
            yield from ijson.items(file, f"{key}.item", use_float=True)
        except ijson.JSONError as error:
            raise ValueError(f"no valid JSON, {' '.join(str(error).split())}") from None


def _check_categories(archive: ZipMembers, name: str, names: Mapping[int, str]) -> None:
    found = {item["id"]: item["name"] for item in _items(archive, name, "categories")}
    if found != names:
        strange = sorted({*map(str, found.items())} ^ {*map(str, names.items())})[:3]
        raise ValueError(f"has other categories than COCO, such as {', '.join(strange)}")


def _image(item: Mapping[str, Any], part: str, most: tuple[int, int]) -> tuple[Any, ...]:
    number, size = _whole(item["id"], "id"), (_whole(item["height"], "height"), _whole(item["width"], "width"))
    if item["file_name"] != f"{number:012d}.jpg":
        raise ValueError(f"image {number} has the file '{item['file_name']}'")
    if not (1 <= size[0] <= most[0] and 1 <= size[1] <= most[1]):
        raise ValueError(f"image {number} has {size[0]}×{size[1]} pixels, expected at most {most[0]}×{most[1]}")
    return part, number, *size


def _region(item: Mapping[str, Any], part: str, labels: Mapping[int, int]) -> tuple[Any, ...]:
    label = labels.get(_whole(item["category_id"], "category_id"))
    if label is None:
        raise ValueError(f"a region is of category {item['category_id']}, which COCO does not have")
    outline = json.dumps(item["segmentation"], allow_nan=False, separators=(",", ":"))
    return part, _whole(item["image_id"], "image_id"), label, _whole(item["iscrowd"], "iscrowd"), outline


def _whole(value: object, key: str) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{key} is {str(value)[:40]!r}, expected a whole number")
    return value
