"""The inside of a shard: one sample after the other in a tar whose bytes depend on the samples alone."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from rc2l_bench.data.datasets.base import Sample
from rc2l_bench.data.decode import size_of
from rc2l_bench.data.index import Shard
from rc2l_bench.data.sample_table import Entry, Member

MASK = "mask.png"
"""Suffix of masks."""


class Tar:
    """A tar that grows by samples. Members are hashed on their way in, so that nothing is read back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = hashlib.sha256()
        self._size = self._samples = 0
        self._file = path.open("xb")

    def __enter__(self) -> Tar:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            if kind is None:
                self._put(bytes(_length(self._size) - self._size))

    def add(self, sample: Sample, shard: int) -> Entry:
        """Append a sample.

        Args:
            sample: what to append.
            shard: number of this tar in the index.

        Returns:
            What the index says of it.
        """
        height, width = size_of(sample.image)
        self._samples += 1
        return Entry(
            id=sample.id,
            shard=shard,
            height=height,
            width=width,
            kind=sample.suffix,
            image=self._add(sample.id, sample.suffix, sample.image),
            mask=None if sample.mask is None else self._add(sample.id, MASK, sample.mask),
        )

    def summary(self) -> Shard:
        """What the index says of the tar, once it is closed."""
        members = self._lines.hexdigest()
        return Shard(name=self._path.name, size=self._size, samples=self._samples, members_sha256=members)

    def _add(self, identity: str, suffix: str, data: bytes) -> Member:
        name = member_name(identity, suffix)
        self._put(_header(name, len(data)))
        offset = self._size
        self._put(data)
        self._put(bytes(-len(data) % tarfile.BLOCKSIZE))
        digest = hashlib.sha256(data)
        self._lines.update(f"{digest.hexdigest()}  {name}\n".encode())
        return Member(offset, len(data), digest.digest())

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._size += len(data)


def find_damage(path: Path, entries: Iterable[Entry]) -> str | None:
    """Compare every byte of a tar with what the index promises.

    Returns:
        What is damaged; None when nothing is.
    """
    with path.open("rb") as file:
        for entry in entries:
            for suffix, member in ((entry.kind, entry.image), (MASK, entry.mask)):
                if member and not _is_intact(file, member_name(entry.id, suffix), member):
                    return f"sample '{entry.id}' ({suffix}) is damaged"
        end = file.tell()
        if file.read() != bytes(_length(end) - end):
            return "its end, after the last sample, is damaged"
    return None


def _is_intact(file: BinaryIO, name: str, member: Member) -> bool:
    header, padding = _header(name, member.size), bytes(-member.size % tarfile.BLOCKSIZE)
    return (
        file.tell() + len(header) == member.offset
        and file.read(len(header)) == header
        and hashlib.sha256(file.read(member.size)).digest() == member.sha256
        and file.read(len(padding)) == padding
    )


def _length(size: int) -> int:
    """Length of a whole tar with so many bytes of members: two empty blocks follow, and the last record is full."""
    return -(-(size + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def member_name(identity: str, suffix: str) -> str:
    """WebDataset's key ends at the first dot of a name, so the dots of an id are written as %2E, and % as %25."""
    return f"{identity.replace('%', '%25').replace('.', '%2E')}.{suffix}"


def _header(name: str, size: int) -> bytes:
    """A header without time, owner or anything else of this machine; long names get a pax header in front."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o444
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8")
