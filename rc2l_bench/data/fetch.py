"""A source becomes a verified file: from the mirror, else from its official URL; never used before it is checked.

Nothing is deleted that this program did not download itself: what a person may have brought is continued where it is
the beginning of the file, or kept under another name.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rc2l_bench.data.partial_files import PartialFile
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.files import checksum, exclusive, naming, say, set_aside, sweep, temporary_name, write_atomically
from rc2l_bench.readers import read_json

MIRROR = "RC2L_BENCH_MIRROR"
"""Environment variable: a folder or a base URL that is asked first, by file name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that somebody else publishes.

    Attributes:
        name: file name in `data/raw/<dataset>` and on a mirror.
        url: the official address.
        size: bytes; None where the publisher's bytes are not stable.
        checksum: `sha256:<hex>` or `md5:<hex>`; None where the content is verified after extraction.
        licence: one line.
        login: how to get the file by hand, where the publisher wants a login; None = it can be downloaded.
    """

    name: str
    url: str
    size: int | None
    checksum: str | None
    licence: str
    login: str | None = None


def fetch(source: Source, folder: Path, *, in_place: bool = False) -> Path:
    """Bring a source into a folder, or find it there.

    Args:
        source: what to bring.
        folder: is made when missing.
        in_place: where the mirror is a folder, return the file that lies there instead of a copy.

    Returns:
        A file whose size and checksum are right.

    Raises:
        UsageError: the mirror is a folder that does not exist.
        BenchError: the file is out of reach or wrong everywhere, or must be downloaded by hand.
    """
    target = folder / source.name
    if is_stamped(source, target):
        return target
    with exclusive(target):
        if _already_there(source, target):
            return target
        reasons = []
        for origin in _origins(source):
            found, reason = _bring(source, origin, target, in_place)
            if found:
                return found
            reasons.append(reason)
    raise BenchError(_out_of_reach(source, folder, reasons))


def verify(source: Source, path: Path) -> None:
    """Check size and checksum of a file by reading all of it, and stamp it.

    Raises:
        BenchError: the file is missing or is not the source; it stays where it is.
    """
    if not path.is_file():
        raise BenchError(f"{path}: missing: bring it with `rc2l-bench data fetch`")
    if fault := fault_of(source, path):
        raise BenchError(f"{path}: {fault}: delete it and fetch it again")
    stamp(source, path)


def fault_of(source: Source, path: Path) -> str | None:
    """Say what is wrong with a file, as `expected …, got …`; None = it is the source."""
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        return f"expected {source.size} bytes, got {size}"
    if source.checksum is None:
        return None
    got = checksum(path, source.checksum.partition(":")[0])
    return None if got == source.checksum else f"expected {source.checksum}, got {got}"


def mention_unpacked(raw: Path, names: Iterable[str]) -> None:
    """Say of folders that somebody has unpacked beside the archives how they can be used.

    Args:
        raw: folder of the data set.
        names: topmost folders in its archives.
    """
    for name in names:
        if (raw / name).is_dir():
            say(
                f"{raw / name}: only the archive is read here, because it can be verified; an unpacked one can be "
                "described as images of your own, see 'Unpacked archives' in datasets/README.md"
            )


def is_stamped(source: Source, path: Path) -> bool:
    """Tell whether a file was verified before and has not been touched since; the file is not read."""
    try:
        return bool(read_json(_stamp_of(path)) == _state(source, path))
    except (OSError, ValueError):
        return False


def stamp(source: Source, path: Path) -> None:
    """Remember that a file is good, so that 11 GB are not read at every start."""
    write_atomically(_stamp_of(path), json.dumps(_state(source, path)).encode())


def _stamp_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.ok")


def _state(source: Source, path: Path) -> dict[str, int | str | None]:
    state = path.stat()
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns, "checksum": source.checksum}


def _already_there(source: Source, target: Path) -> bool:
    """True for a good file; a wrong one is continued where it may be the beginning of the file, or set aside."""
    if not target.is_file():
        return False
    fault = fault_of(source, target)
    if fault is None:
        stamp(source, target)
        return True
    if source.login:
        raise BenchError(f"{target}: {fault}: download it again. {source.login}")
    part, have = PartialFile(target), target.stat().st_size
    if source.checksum and part.size <= have < (source.size or 0):
        part.adopt()
    else:
        set_aside(target, fault)
    return False


def _origins(source: Source) -> Iterator[Path | str]:
    """Where a file may be had: the mirror, then the official URL if it needs no login."""
    mirror = os.environ.get(MIRROR, "").strip()
    if mirror.startswith(("http://", "https://")):
        yield f"{mirror.rstrip('/')}/{source.name}"
    elif mirror and not Path(mirror).is_dir():
        raise UsageError(f"{MIRROR}={mirror}: no such folder: name a folder or an http(s) address, or unset it")
    elif mirror:
        yield Path(mirror) / source.name
    if not source.login:
        yield source.url


def _bring(source: Source, origin: Path | str, target: Path, in_place: bool) -> tuple[Path | None, str]:
    """The file from one place; or None, and why not."""
    if isinstance(origin, str):
        reason = _download(source, origin, target)
        return (target if reason is None else None), reason or ""
    if not origin.is_file():
        return None, f"{origin}: not in the mirror"
    if fault := fault_of(source, origin):
        say(f"{origin}: {fault}: not used")
        return None, f"{origin}: {fault}"
    if in_place:
        return origin, ""
    _copy(origin, target)
    stamp(source, target)
    return target, ""


def _copy(origin: Path, target: Path) -> None:
    sweep(target.parent)
    part = temporary_name(target)
    try:
        try:
            os.link(origin, part)  # many GB are not kept twice on one disk
        except OSError:
            with naming(part):
                shutil.copyfile(origin, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _download(source: Source, address: str, target: Path) -> str | None:
    """Downloads, checks and moves in place; returns why not, None = done."""
    from rc2l_bench.data.addresses import without_secrets
    from rc2l_bench.data.download import UnavailableError, download

    part, joined = PartialFile(target), True
    while joined:  # bytes of several transfers may not belong together: the last try is always in one piece
        part.begin()
        try:
            joined = download(address, part, size=source.size, resume=source.checksum is not None)
        except UnavailableError as error:
            part.leave()
            return str(error)
        fault = fault_of(source, part.path)
        if fault is None:
            part.finish()
            stamp(source, target)
            return None
        say(f"{source.name} from {without_secrets(address)}: {fault}: not used")
        part.discard(fault)
    part.leave()
    return f"{without_secrets(address)}: {fault}"


def _out_of_reach(source: Source, folder: Path, reasons: list[str]) -> str:
    size = f" ({source.size:,} bytes)" if source.size else ""
    tried = f" Tried: {'; '.join(reasons)}." if reasons else ""
    advice = f"Put the file into {folder}, or into a folder named by {MIRROR}."
    if source.login:
        return f"{source.name}{size}: needs a login: {source.login} {advice}{tried}"
    return f"{source.name}{size}: cannot be had.{tried} {advice}"
