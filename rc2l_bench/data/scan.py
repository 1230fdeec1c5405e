"""The images of tars and folders that somebody else made: where each lies, its hash, its size, and whether it decodes.

What cannot be decoded is left out and counted: a million pictures from the web have a few of those, and a training
must not end with one of them.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rc2l_bench.data.decode import decode_image
from rc2l_bench.data.image_headers import read_header
from rc2l_bench.data.index import Shard
from rc2l_bench.data.sample_table import Entry, Member
from rc2l_bench.errors import BenchError
from rc2l_bench.readers import reading

IMAGES = (".jpg", ".jpeg", ".png")
"""Suffixes of images, lower case."""
_AT_ONCE = 64
"""Images that are held in memory."""


class _Found(NamedTuple):
    """An image that was found: its id, the shard and the first byte there, its bytes."""

    id: str
    shard: int
    offset: int
    data: bytes


@dataclass
class Left:
    """What was left out: how many for each reason, and the first of them."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Count one."""
        self.counts[reason] += 1
        self.examples.setdefault(reason, name if name.isprintable() else ascii(name))

    def update(self, other: Left) -> None:
        """Add what another one counted."""
        self.counts.update(other.counts)
        self.examples = other.examples | self.examples

    def describe(self) -> str:
        """Say it in one line; empty where nothing was left out."""
        parts = [f"{count:,} {reason} (like {self.examples[reason]})" for reason, count in sorted(self.counts.items())]
        return f"left out: {', '.join(parts)}" if parts else ""


def scan_tar(path: Path, name: str, number: int, left: Left) -> tuple[Shard, list[Entry]]:
    """List the images of a tar.

    A sample of WebDataset is what has one name up to the first dot; its image is the member whose rest is `jpg`, `jpeg`
    or `png`, the first one where there are several. Ids are `<name of the tar>/<name up to the dot>`.

    Args:
        path: of the tar.
        name: of the tar, as the index is to have it.
        number: of the tar in the index.
        left: what is left out is added here.

    Returns:
        The tar, and its images in rising order of ids.

    Raises:
        BenchError: it is compressed, damaged, or no tar.
    """
    lines, prefix = hashlib.sha256(), name.removesuffix(".tar")
    entries: dict[str, Entry] = {}
    for image, entry in _check(_members(path, prefix, number), left):
        lines.update(f"{entry.image.sha256.hex()}  {image.id}\n".encode())
        if entries.setdefault(entry.id, entry) is not entry:
            left.add("further images of a sample", entry.id)
    shard = Shard(name=name, size=path.stat().st_size, samples=len(entries), members_sha256=lines.hexdigest())
    return shard, sorted(entries.values(), key=lambda entry: entry.id)


def scan_folder(folder: Path, left: Left) -> Iterator[Entry]:
    """List the images of a folder and of all folders in it, by their paths, in rising order.

    Args:
        folder: with images.
        left: what is left out is added here.
    """
    names = []
    for name in list_files(folder):
        if name.lower().endswith(IMAGES):
            names.append(name)
        else:
            left.add("other files", name)
    found = (_Found(name, 0, 0, (folder / name).read_bytes()) for name in sorted(names))
    return (entry for _, entry in _check(found, left))


def list_files(folder: Path) -> Iterator[str]:
    """The files of a folder and of all folders in it, without hidden ones, as paths seen from it with `/`."""
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(root) / name).relative_to(folder).as_posix()


def _members(path: Path, prefix: str, number: int) -> Iterator[_Found]:
    """The images inside a tar."""
    stream = "; a compressed one has no places: stream it, `pool: {stream: …}`" if path.suffix != ".tar" else ""
    with reading(path, f"no tar, or a damaged one{stream}"), tarfile.open(path, "r:") as tar, path.open("rb") as file:
        for member in tar:
            folder, _, base = member.name.removeprefix("./").rpartition("/")
            key, _, suffix = base.partition(".")
            if member.isreg() and f".{suffix.lower()}" in IMAGES:
                data = os.pread(file.fileno(), member.size, member.offset_data)
                place = f"{folder}/{key}" if folder else key
                yield _Found(f"{prefix}/{place}", number, member.offset_data, data)
            tar.members = []  # type: ignore[attr-defined]  # else all headers stay in memory


def _check(found: Iterable[_Found], left: Left) -> Iterator[tuple[_Found, Entry]]:
    """What the index says of those images that can be decoded, a few side by side: decoders let other threads run."""
    found = iter(found)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2) as threads:
        while images := list(itertools.islice(found, _AT_ONCE)):
            for image, entry in zip(images, threads.map(_look, images), strict=True):
                if isinstance(entry, str):
                    left.add(entry, image.id)
                else:
                    yield image, entry


def _look(image: _Found) -> Entry | str:
    """What the index says of an image; or why it is left out."""
    if not image.id.isprintable():
        return "names that cannot be shown"
    try:
        kind = read_header(image.data, image.id).kind
        height, width = decode_image(image.data, image.id).shape[:2]
    except BenchError:
        return "images that cannot be decoded"
    place = Member(image.offset, len(image.data), hashlib.sha256(image.data).digest())
    return Entry(id=image.id, shard=image.shard, height=height, width=width, kind=kind, image=place, mask=None)
