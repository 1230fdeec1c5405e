"""The inside of a shard: one sample after the other in a tar whose bytes depend on the samples alone."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

from rc2l_bench.data.datasets.base import Sample
from rc2l_bench.data.decode import size_of
from rc2l_bench.data.index import Member, SampleEntry

MASK = "mask.png"
"""Suffix of masks."""


class Tar:
    """A tar that grows by samples. Members are hashed on their way in, so that nothing is read back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = hashlib.sha256()
        self._size = 0
        self._file = path.open("xb")

    def __enter__(self) -> Tar:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            if kind is None:
                self._put(bytes(_length(self._size) - self._size))

    def add(self, sample: Sample, shard: int) -> dict[str, Any]:
        """Appends a sample.

        Args:
            sample: what to append.
            shard: position of this tar in the index.

        Returns:
            The fields of `index.SampleEntry`.
        """
        height, width = size_of(sample.image)
        return {
            "id": sample.id,
            "shard": shard,
            "height": height,
            "width": width,
            "image": {"suffix": sample.suffix, **self._add(sample.id, sample.suffix, sample.image)},
            "mask": None if sample.mask is None else self._add(sample.id, MASK, sample.mask),
        }

    def summary(self) -> dict[str, Any]:
        """The fields of `index.Shard`, once the tar is closed."""
        return {"name": self._path.name, "size": self._size, "members_sha256": self._lines.hexdigest()}

    def _add(self, identity: str, suffix: str, data: bytes) -> dict[str, Any]:
        name = _member_name(identity, suffix)
        self._put(_header(name, len(data)))
        offset = self._size
        self._put(data)
        self._put(bytes(-len(data) % tarfile.BLOCKSIZE))
        sha256 = hashlib.sha256(data).hexdigest()
        self._lines.update(f"{sha256}  {name}\n".encode())
        return {"offset": offset, "size": len(data), "sha256": sha256}

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._size += len(data)


def find_damage(path: Path, entries: list[SampleEntry]) -> str | None:
    """Compares every byte of a tar with what the index promises.

    Returns:
        What is damaged; None when nothing is.
    """
    with path.open("rb") as file:
        for entry in entries:
            for suffix, member in ((entry.image.suffix, entry.image), (MASK, entry.mask)):
                if member and not _is_intact(file, _member_name(entry.id, suffix), member):
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
        and hashlib.sha256(file.read(member.size)).hexdigest() == member.sha256
        and file.read(len(padding)) == padding
    )


def _length(size: int) -> int:
    """Length of a whole tar with so many bytes of members: two empty blocks follow, and the last record is full."""
    return -(-(size + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def _member_name(identity: str, suffix: str) -> str:
    """WebDataset's key ends at the first dot of a name, so the dots of an id are written as %2E, and % as %25."""
    return f"{identity.replace('%', '%25').replace('.', '%2E')}.{suffix}"


def _header(name: str, size: int) -> bytes:
    """A header without time, owner or anything else of this machine; long names get a pax header in front."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o444
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8")
