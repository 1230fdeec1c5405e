"""What an entry of `pool` stands for: tars, files, or shards with an index, near or far away."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rc2l_bench.data import index
from rc2l_bench.data.addresses import is_remote, list_tars, split_base, without_secrets
from rc2l_bench.data.scan import list_files
from rc2l_bench.errors import UsageError

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSource:
    """Images without labels in one place.

    Attributes:
        text: as it was written down, without secrets.
        base: folder or address.
        names: of the tars, seen from there, sorted; empty for loose files, and where an index says.
        kind: `tars` to scan; `files`, a folder of images; `shards` with an index of ours beside them.
        state: changes when a local file does; the text for what is far away, which is not looked at again.
    """

    text: str
    base: str
    names: tuple[str, ...]
    kind: Literal["tars", "files", "shards"]
    state: str

    @property
    def key(self) -> str:
        """Name of the folder in which the list of its images is kept."""
        return hashlib.sha256(f"{self.kind}\n{self.base}\n{self.state}".encode()).hexdigest()[:24]


def resolve(text: str) -> PoolSource:
    """Find out what an entry stands for.

    Raises:
        UsageError: there is nothing, it is compressed, or it holds a password.
    """
    if text.partition("?")[0].endswith(_COMPRESSED):
        raise UsageError(
            f"pool: {without_secrets(text)}: images inside a compressed tar have no places: stream it "
            "(`pool: {stream: …}`), or unpack it once with gunzip"
        )
    return _resolve_remote(text) if is_remote(text) else _resolve_local(text)


def _resolve_remote(text: str) -> PoolSource:
    if text.partition("?")[0].endswith("/"):
        base, _ = split_base([text])
        return PoolSource(text=without_secrets(text), base=base, names=(), kind="shards", state=text)
    base, names = split_base(list_tars(text))
    return PoolSource(text=without_secrets(text), base=base, names=_sorted(names), kind="tars", state=text)


def _resolve_local(text: str) -> PoolSource:
    folder = Path(text).expanduser()
    if folder.is_dir() and (folder / index.NAME).is_file():
        state = hashlib.sha256((folder / index.NAME).read_bytes()).hexdigest()
        return PoolSource(text=text, base=folder.as_posix(), names=(), kind="shards", state=state)
    if folder.is_dir():
        return PoolSource(
            text=text, base=folder.as_posix(), names=(), kind="files", state=_state(folder, list_files(folder))
        )
    tars = [Path(path) for path in list_tars(text)]
    base = Path(*_shared([path.parent.parts for path in tars]))
    names = _sorted([path.relative_to(base).as_posix() for path in tars])
    return PoolSource(text=text, base=base.as_posix(), names=names, kind="tars", state=_state(base, names))


def _sorted(names: list[str]) -> tuple[str, ...]:
    """In the order of the ids of their images, which begin with the name of their tar and a slash."""
    return tuple(sorted(names, key=lambda name: f"{name.removesuffix('.tar')}/"))


def _shared(paths: list[tuple[str, ...]]) -> list[str]:
    """The parts that all paths begin with."""
    shared = []
    for level in zip(*paths, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return shared


def _state(folder: Path, names: Iterable[str]) -> str:
    """Changes when a file comes, goes, or changes its size or time."""
    digest = hashlib.sha256()
    for name in sorted(names):
        state = (folder / name).stat()
        digest.update(f"{state.st_size}\t{state.st_mtime_ns}\t{name!a}\n".encode())
    return digest.hexdigest()
