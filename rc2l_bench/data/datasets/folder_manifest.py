"""What `prepare` found in the user's folders: which files belong together, and their content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from rc2l_bench.config import Model
from rc2l_bench.errors import BenchError
from rc2l_bench.files import say, write_atomically
from rc2l_bench.readers import DamagedFileError, read_bytes
from rc2l_bench.schema import first_fault
from rc2l_bench.seals import seal, unseal

MANIFEST = "manifest.json"
DUPLICATES = "duplicates.txt"
"""Beside it, where there are any."""
MOST_BYTES = 1 << 29
"""Of the manifest: a million samples."""
_RANK = {"test": 0, "val": 1, "train": 2}
"""Of images of the same bytes, the one in the first of these parts is kept: what is scored is never learnt from."""


PathText = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=4096)]
"""Path of a file as systems take it, in one line."""


class ManifestEntry(Model):
    """One sample of the manifest."""

    id: str
    part: Literal["train", "val", "test"]
    height: Annotated[int, Field(ge=1)]
    """Pixels of the image as it is used, turned or not."""
    width: Annotated[int, Field(ge=1)]
    image: PathText
    image_sha256: str
    mask: PathText | None
    mask_sha256: str | None


class Manifest(Model):
    """The files stay where they are, and must not change afterwards."""

    format: Annotated[int, Field(ge=2, le=2)]
    config: str
    """sha256 of the yaml's content."""
    samples: list[ManifestEntry]
    """Sorted by id."""


def write_manifest(raw: Path, manifest: Manifest) -> None:
    """Write the manifest into `raw`; where it is there already nothing is touched."""
    data = seal(manifest.model_dump(mode="json"), indent=1)
    if not (raw / MANIFEST).is_file() or (raw / MANIFEST).read_bytes() != data:
        write_atomically(raw / MANIFEST, data)


def read_manifest(raw: Path, again: str) -> Manifest:
    """Read the manifest in `raw`.

    Args:
        raw: folder of the data set.
        again: how to make it, for messages.

    Raises:
        BenchError: it is missing or damaged.
    """
    path = raw / MANIFEST
    if not path.is_file():
        raise BenchError(f"{path}: missing: {again}")
    content = unseal(read_bytes(path, MOST_BYTES), path, again)
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise DamagedFileError(f"{path}: no manifest ({first_fault(error)}): {again}") from None


def resolve_duplicates(entries: Sequence[ManifestEntry], raw: Path, *, drop: bool) -> list[ManifestEntry]:
    """Find images of the same bytes, which a model must not learn from and be scored on.

    Args:
        entries: of all samples, sorted by id.
        raw: folder for the list of all of them.
        drop: keep one of each: that of the part that is scored, with a mask, with the first id.

    Returns:
        The entries that are kept.

    Raises:
        BenchError: there are some in two parts, and they are not to be dropped.
    """
    groups: dict[str, list[ManifestEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.image_sha256, []).append(entry)
    same = [group for group in groups.values() if len(group) > 1]
    apart = [group for group in same if len({entry.part for entry in group}) > 1]
    listing = raw / DUPLICATES
    if not same:
        listing.unlink(missing_ok=True)
        return list(entries)
    text = "\n".join("".join(f"{entry.part}\t{entry.id}\t{entry.image}\n" for entry in group) for group in same)
    write_atomically(listing, text.encode())
    if drop:
        kept = [_best(group) for group in groups.values()]
        say(f"{raw}: {len(entries) - len(kept)} images dropped whose bytes another one has, see {listing}")
        return sorted(kept, key=lambda entry: entry.id)
    if apart:
        raise BenchError(_refusal(apart, listing))
    say(f"{raw}: {_number(same)}, all within one part; splits that set them apart are refused: see {listing}")
    return list(entries)


def _best(group: Sequence[ManifestEntry]) -> ManifestEntry:
    return min(group, key=lambda entry: (_RANK[entry.part], entry.mask is None, entry.id))


def _refusal(groups: Sequence[Sequence[ManifestEntry]], listing: Path) -> str:
    one, other = groups[0][0], next(entry for entry in groups[0] if entry.part != groups[0][0].part)
    return (
        f"{_number(groups)}, in two parts: '{one.id}' ({one.part}) and '{other.id}' ({other.part}), all in {listing}: "
        "take them out, or keep one of each with `duplicates: drop`"
    )


def _number(groups: Sequence[Sequence[ManifestEntry]]) -> str:
    pairs = sum(len(group) * (len(group) - 1) // 2 for group in groups)
    images = sum(map(len, groups))
    return f"{pairs} pair{'s' * (pairs > 1)} of images with the same bytes ({images} images)"
