"""Which training images are labelled: a split and its file, the gate against contamination, description, comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rc2l_bench.config import Draws
from rc2l_bench.data.catalog import Catalog
from rc2l_bench.data.contamination import check_apart
from rc2l_bench.errors import BenchError
from rc2l_bench.files import write_atomically
from rc2l_bench.readers import DamagedFileError, read_bytes
from rc2l_bench.schema import Model, first_fault
from rc2l_bench.seals import seal, unseal

MOST_BYTES = 1 << 27
"""Of a split's file: some millions of ids."""


class TrainingImages(Model):
    """All training images of a data set, which a split divides."""

    count: int
    ids_sha256: str
    """See `split_id`. The index of the pool has the same, so that nobody has to compare lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The training images of a data set, labelled and unlabelled.

    Attributes:
        dataset: its name.
        name: of the split.
        labelled: sorted ids.
        unlabelled: sorted ids, where a published list says so; None = all other training images.
        train: what the sides are taken from.
        pixels: of each class over the labelled images.
        provenance: where the list comes from.
    """

    dataset: str
    name: str
    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...] | None
    train: TrainingImages
    pixels: Mapping[str, int]
    provenance: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Identity of the labelled side; see `split_id`."""
        return split_id(self.labelled)

    @property
    def draws(self) -> Draws:
        """What the seed of a cell changes in the labels."""
        draws: Draws = self.provenance.get("draws", "list")
        return draws

    @property
    def unlabelled_id(self) -> str:
        """Identity of the unlabelled side: its `split_id` where it is a list.

        Where it is a difference, the hash of what it is the difference of: no list of a million ids is needed.
        """
        if self.unlabelled is not None:
            return split_id(self.unlabelled)
        return hashlib.sha256(f"{self.train.ids_sha256}\nwithout\n{self.id}".encode()).hexdigest()

    @property
    def num_unlabelled(self) -> int:
        """Images of the unlabelled side."""
        return self.train.count - len(self.labelled) if self.unlabelled is None else len(self.unlabelled)


class SplitFile(Model):
    """What `write` writes; see `Split`."""

    dataset: str
    split: str
    id: str
    unlabelled_id: str
    labelled: list[str]
    unlabelled: list[str] | None
    train: TrainingImages
    pixels: dict[str, int]
    provenance: dict[str, Any]


def split_id(ids: Iterable[str]) -> str:
    """Identity of one side of a split: sha256 of its sorted ids, joined by newlines."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def assemble(
    dataset: str,
    name: str,
    catalog: Catalog,
    labelled: Collection[str],
    unlabelled: Collection[str] | None,
    provenance: Mapping[str, Any],
) -> Split:
    """Make a split of lists of ids, and check it.

    Args:
        dataset: its name.
        name: of the split.
        catalog: of the data set.
        labelled: ids of training images with masks.
        unlabelled: ids of training images; None = the rest of the training images.
        provenance: where the lists come from.

    Raises:
        BenchError: the gate found a contamination, or an image has no mask.
    """
    rows = {row.id: row for row in catalog.of("train")}
    if bare := [identity for identity in labelled if identity not in rows or not rows[identity].labelled]:
        raise BenchError(f"{dataset}: '{bare[0]}' is not a training image with a mask, so it cannot be labelled")
    if strange := set(unlabelled or ()) - rows.keys():
        raise BenchError(f"{dataset}: '{min(strange)}' is not a training image, so it cannot be unlabelled")
    chosen = [rows[identity] for identity in labelled]
    if unlabelled is not None and set(unlabelled) == rows.keys() - set(labelled):
        unlabelled = None  # said in another way, and the same images
    split = Split(
        dataset=dataset,
        name=name,
        labelled=tuple(sorted(labelled)),
        unlabelled=None if unlabelled is None else tuple(sorted(unlabelled)),
        train=TrainingImages(count=len(rows), ids_sha256=split_id(rows)),
        pixels={label: sum(row.pixels[k] for row in chosen) for k, label in enumerate(catalog.classes)},
        provenance=provenance,
    )
    check(split, catalog)
    return split


def check(split: Split, catalog: Catalog) -> None:
    """Make sure that no image is on two sides, and that the labelled side says something.

    Raises:
        BenchError: labelled, unlabelled, val and test share an image, or no labelled image has a labelled pixel.
    """
    train = {row.id: row for row in catalog.of("train")}
    others = train.keys() - set(split.labelled) if split.unlabelled is None else split.unlabelled
    groups = {
        "labelled": [train[identity] for identity in split.labelled],
        "unlabelled": [train[identity] for identity in sorted(others)],
        "val": catalog.of("val"),
        "test": catalog.of("test"),
    }
    check_apart(f"{split.dataset}, split {split.name}", groups)
    if not any(split.pixels.values()):
        raise BenchError(
            f"{split.dataset}, split {split.name}: every pixel of its {len(split.labelled)} masks is ignored"
        )


def write(split: Split, path: Path) -> None:
    """Write a split as JSON with its own hash, whole or not at all.

    Where the same bytes are there already they stay, so that the stages after this one need not run again.
    """
    data = seal(
        {
            "dataset": split.dataset,
            "split": split.name,
            "id": split.id,
            "unlabelled_id": split.unlabelled_id,
            "labelled": split.labelled,
            "unlabelled": split.unlabelled,
            "train": split.train.model_dump(),
            "pixels": split.pixels,
            "provenance": split.provenance,
        },
        indent=1,
    )
    if not path.is_file() or path.read_bytes() != data:
        write_atomically(path, data)


def read(path: Path) -> Split:
    """Read a split that `write` wrote.

    Raises:
        OSError: it is missing or may not be read.
        DamagedFileError: a byte has changed, or it is no split.
    """
    hint = "delete it and run the stages again"
    content = unseal(read_bytes(path, MOST_BYTES), path, hint)
    try:
        found = SplitFile.model_validate(content)
    except ValidationError as error:
        raise DamagedFileError(f"{path}: no split ({first_fault(error)}): {hint}") from None
    split = Split(
        dataset=found.dataset,
        name=found.split,
        labelled=tuple(found.labelled),
        unlabelled=None if found.unlabelled is None else tuple(found.unlabelled),
        train=found.train,
        pixels=found.pixels,
        provenance=found.provenance,
    )
    if (split.id, split.unlabelled_id) != (found.id, found.unlabelled_id):
        raise DamagedFileError(f"{path}: its ids do not have the hashes that it says: {hint}")
    return split


def images_with(split: Split, catalog: Catalog) -> dict[str, int]:
    """In how many of the labelled images each class appears."""
    chosen = set(split.labelled)
    rows = [row for row in catalog.of("train") if row.id in chosen]
    return {label: sum(row.pixels[k] > 0 for row in rows) for k, label in enumerate(catalog.classes)}


def overlap(splits: Sequence[Split]) -> list[list[int]]:
    """How many labelled images each pair of splits shares, as a square matrix."""
    labelled = [set(split.labelled) for split in splits]
    return [[len(mine & theirs) for theirs in labelled] for mine in labelled]
