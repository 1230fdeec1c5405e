"""index.json: what lies where in a folder of shards. It carries its own hash, so that no change goes unseen."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from rc2l_bench.errors import BenchError
from rc2l_bench.readers import read_bytes
from rc2l_bench.schema import Model

NAME = "index.json"
MOST_BYTES = 1 << 30
"""Of an index: some millions of samples."""
REPAIR = ": delete the folder and build it again"

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Natural = Annotated[int, Field(ge=0, le=1 << 53)]
Positive = Annotated[int, Field(ge=1, le=1 << 53)]


class Member(Model):
    """A mask inside a shard."""

    offset: Positive
    """Of the first byte after the tar header."""
    size: Natural
    """Bytes."""
    sha256: Hash


class ImageMember(Member):
    """An image inside a shard, in the bytes of its source."""

    suffix: Literal["png", "jpg"]


class SampleEntry(Model):
    """One sample."""

    id: str
    shard: Natural
    """Position in `shards`."""
    height: Positive
    width: Positive
    image: ImageMember
    mask: Member | None


class Shard(Model):
    """One tar."""

    name: Annotated[str, Field(pattern=r"^\w[\w-]*\.tar$")]
    size: Positive
    """Bytes."""
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


class Index(Model):
    """index.json."""

    format: Literal[1]
    dataset: Meta
    part: str
    split: str | None
    split_id: str | None
    digest: Hash
    """sha256 over the `members_sha256` of the shards, in order."""
    shards: list[Shard]
    samples: list[SampleEntry]
    """In rising order of ids."""
    sha256: Hash
    """Of all bytes of the file before the comma in front of this key."""

    @model_validator(mode="after")
    def _shards_are_listed(self) -> Index:
        if lost := [entry.id for entry in self.samples if entry.shard >= len(self.shards)]:
            raise ValueError(f"sample '{lost[0]}' is in a shard that is not listed")
        return self


def render(content: dict[str, Any]) -> bytes:
    """The bytes of index.json.

    Args:
        content: the fields of `Index` without `sha256`, ready for JSON.
    """
    head = json.dumps(content).removesuffix("}").encode()
    return head + _tail(head)


def read(path: Path) -> Index:
    """Reads and checks index.json.

    Raises:
        BenchError: it is missing, is no index, or has changed since it was written.
    """
    try:
        data = read_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        raise BenchError(f"{path}: is missing: build the shards with `rc2l-bench run` or `dvc repro`") from None
    try:
        index = Index.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "top level"
        raise BenchError(f"{path}: no index of shards ({where}: {first['msg']}){REPAIR}") from None
    head = data[: -len(_tail(b""))]
    if head + _tail(head) != data:
        raise BenchError(f"{path}: has changed since it was written{REPAIR}")
    return index


def _tail(head: bytes) -> bytes:
    return f', "sha256": "{hashlib.sha256(head).hexdigest()}"}}\n'.encode()
