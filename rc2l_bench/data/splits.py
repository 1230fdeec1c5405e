"""Which training images are labelled: drawn splits, description and comparison.

Names of drawn splits: `full`, or `1_N` for one N-th of the training images that have a mask, rounded up, as the
published lists are (CPS, U2PL, UniMatch). `1_N-sK` is drawn with seed K instead of the seed in params.yaml. All splits
of a seed are beginnings of one permutation, so 1_16 ⊂ 1_8 ⊂ 1_4 ⊂ 1_2. `classic_1_N` is drawn from the images with
clean masks only (VOC: 1,464 of 10,582); all others are unlabelled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rc2l_bench.config import SplitConfig
from rc2l_bench.data.catalog import Catalog, Row
from rc2l_bench.data.contamination import check_apart
from rc2l_bench.draws import derive
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.files import write_atomically
from rc2l_bench.readers import DamagedFileError, read_bytes
from rc2l_bench.schema import Model, first_fault
from rc2l_bench.seals import seal, unseal

_DRAWN = re.compile(r"full|(?P<classic>classic_)?1_(?P<n>[1-9]\d{0,5})(-s(?P<seed>0|[1-9]\d{0,8}))?")
MOST_BYTES = 1 << 27
"""Of a split's file: some millions of ids."""
_HINT = "1_N (one N-th of the labels, for instance 1_16), 1_N-sK (with seed K), classic_1_N (of the clean masks), full"


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


def is_drawn(name: str) -> bool:
    """Whether a name is that of a split that is drawn here, not of a list."""
    return _DRAWN.fullmatch(name) is not None


def order(rows: Iterable[Row], seed: int, policy: str) -> list[str]:
    """The permutation of the labelled training images that all splits of a seed begin with.

    Args:
        rows: training images with masks; their order does not matter.
        seed: any integer.
        policy: `uniform`: by a hash of (seed, id), the same for ever; `balanced`: the same, but images that bring in
            classes not seen before are moved to the front, so that every beginning covers the classes it can: again
            and again the rarest class that is missing is taken, and of its images the one with most missing classes.

    Returns:
        All ids.
    """
    drawn = sorted(rows, key=lambda row: (derive(seed, f"split/{row.id}"), row.id))
    first = _cover(drawn) if policy == "balanced" else []
    return [row.id for row in [*first, *(row for row in drawn if row not in first)]]


def _cover(rows: list[Row]) -> list[Row]:
    """A few of the rows that have every class that any row has; our choice of the greedy rule."""
    has = {row.id: {k for k, count in enumerate(row.pixels) if count} for row in rows}
    images = {k: sum(k in classes for classes in has.values()) for k in set().union(*has.values())}
    chosen: list[Row] = []
    missing = set(images)
    while missing:
        rarest = min(missing, key=lambda k: (images[k], k))
        # max takes the first of equals: the order of the permutation decides.
        best = max((row for row in rows if rarest in has[row.id]), key=lambda row: len(has[row.id] & missing))
        chosen.append(best)
        missing -= has[best.id]
    return chosen


def draw(dataset: str, name: str, catalog: Catalog, config: SplitConfig, clean: Collection[str] | None = None) -> Split:
    """Draws the split that a name like `1_16`, `1_16-s3`, `classic_1_4` or `full` describes, and checks it.

    Args:
        dataset: its name.
        name: of the split.
        catalog: of the data set.
        config: seed and policy.
        clean: ids of the images with clean masks, for `classic_`; None = nobody knows which they are.

    Raises:
        UsageError: the name is of another form, or needs to know the clean masks.
        BenchError: the gate found a contamination.
    """
    match = _DRAWN.fullmatch(name)
    if match is None:
        raise UsageError(f"split '{name}': not the name of a drawn split: {_HINT}")
    pool = [row for row in catalog.of("train") if row.labelled]
    if match["classic"]:
        if clean is None:
            raise UsageError(f"split '{name}': {dataset} has no list of images with clean masks: {_HINT}")
        pool = [row for row in pool if row.id in clean]
    seed = config.seed if match["seed"] is None else int(match["seed"])
    count = -(-len(pool) // int(match["n"] or 1))
    labelled = order(pool, seed, config.policy)[:count]
    rule = {"kind": "drawn", "seed": seed, "policy": config.policy, "of": len(pool), "rounding": "up"}
    rule |= {"masks": "clean"} if match["classic"] else {}
    return assemble(dataset, name, catalog, labelled, None, rule)


def assemble(
    dataset: str,
    name: str,
    catalog: Catalog,
    labelled: Collection[str],
    unlabelled: Collection[str] | None,
    provenance: Mapping[str, Any],
) -> Split:
    """Makes a split of lists of ids, and checks it.

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
