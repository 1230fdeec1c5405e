"""index.json: what a folder of shards holds, for a person to read. Its samples are in the Arrow file beside it.

Both files are covered by hashes, so that no change goes unseen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from rc2l_bench.data.sample_table import Summary
from rc2l_bench.errors import BenchError
from rc2l_bench.readers import DamagedFileError, read_bytes
from rc2l_bench.schema import Model, first_fault
from rc2l_bench.seals import seal, unseal

NAME = "index.json"
FORMAT = 2
"""1 had the samples in index.json too."""
REPAIR = "delete the folder and build it again"
MOST_BYTES = 1 << 28
"""Of index.json: a million shards."""

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Natural = Annotated[int, Field(ge=0, le=1 << 53)]
Positive = Annotated[int, Field(ge=1, le=1 << 53)]


def _inside(name: str) -> str:
    if ".." in name.split("/"):
        raise ValueError("leads out of its folder")
    return name


class Shard(Model):
    """One tar."""

    name: Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f][^\\\x00-\x1f]*$"), AfterValidator(_inside)]
    """Of its file, seen from where the shards lie. A copy gets the same name, so it leads nowhere else."""
    size: Positive
    """Bytes."""
    samples: Natural
    """That it holds."""
    members_sha256: Hash
    """sha256 over the lines `<sha256>  <name>` of its members in order, as sha256sum prints them. Together with the
    fixed form of the headers it stands for every byte, and the data are hashed once instead of twice."""


class Meta(Model):
    """What a reader has to know of the data set."""

    name: str
    classes: Annotated[list[str], Field(min_length=1)]
    palette: list[tuple[int, int, int]]
    canvas: tuple[Positive, Positive]
    """Height and width that every image fits into, pixels."""


class Samples(Summary):
    """What is known of the samples, and the hash of the file that lists them."""

    sha256: Hash


class Index(Model):
    """index.json, without the hash at its end."""

    format: Literal[2]
    dataset: Meta
    part: str
    split: str | None
    split_id: str | None
    base: str | None
    """Folder or address where the shards or files lie; None = beside the index."""
    layout: Literal["tars", "files"]
    """`files`: there are no shards, and the id of a sample is the path of its image, seen from `base`."""
    digest: Hash
    """Stands for the bytes of all samples; see `digest_of`."""
    samples: Samples
    shards: list[Shard]


def digest_of(members: Iterable[str]) -> str:
    """sha256 over the `members_sha256` of the shards, in order."""
    return hashlib.sha256("".join(members).encode()).hexdigest()


def render(content: dict[str, Any]) -> bytes:
    """Write the bytes of index.json, hash included.

    Args:
        content: the fields of `Index`, ready for JSON.
    """
    return seal(content, indent=1)


def read(path: Path) -> Index:
    """Read and check index.json.

    Raises:
        BenchError: it is missing, is no index, or has changed since it was written.
    """
    try:
        data = read_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        hint = "folders of shards, such as data/shards/shapes/pool, are made by `rc2l-bench run` or `dvc repro`"
        raise BenchError(f"{path}: is missing: {hint}") from None
    if data.startswith(b'{"format": 1,'):
        raise BenchError(f"{path}: is of an older form: run the stages again, which build these shards anew")
    return parse(data, path)


def parse(data: bytes, path: Path | str) -> Index:
    """Check the bytes of an index.json; see `read`."""
    content = unseal(data, path, REPAIR)
    try:
        return Index.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise DamagedFileError(f"{path}: no index of shards ({first_fault(error)}): {REPAIR}") from None


def check_table(path: Path, index: Index) -> None:
    """Hash the list of samples, without mapping it: pages that are only hashed are not ours.

    Raises:
        BenchError: it is missing, or has changed since the index was written.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise BenchError(f"{path}: is missing: {REPAIR}") from None
    if found != index.samples.sha256:
        raise DamagedFileError(f"{path}: has changed since {NAME} was written: {REPAIR}")
