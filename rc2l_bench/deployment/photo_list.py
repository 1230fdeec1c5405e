"""Find the pictures that arguments of a command line stand for: files, folders, patterns and addresses."""

from __future__ import annotations

import glob
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from rc2l_bench.data.addresses import without_secrets
from rc2l_bench.data.download import download
from rc2l_bench.data.partial_files import PartialFile
from rc2l_bench.deployment.photo_files import SUFFIXES
from rc2l_bench.deployment.prediction_files import FOLDERS
from rc2l_bench.errors import BenchError, UsageError

ADDRESS = re.compile(r"https?://", re.IGNORECASE)
WILD = re.compile(r"[*?\[]")


class PhotoSource(NamedTuple):
    """One picture to come.

    Attributes:
        origin: a file, or an address.
        name: of what is written for it, without a suffix; may have folders, unique among all.
    """

    origin: Path | str
    name: str

    @property
    def title(self) -> str:
        """What to call it: an address without what may be secret in it."""
        return without_secrets(self.origin) if isinstance(self.origin, str) else str(self.origin)


def find_photos(arguments: Sequence[str], out: Path) -> list[PhotoSource]:
    """Find all pictures, each once, in the order of the arguments; those of a folder by name.

    Args:
        arguments: files, folders (searched to the bottom), patterns (`**` = any folders), http and https addresses.
        out: folder of results; those of an earlier call are no photos.

    Raises:
        UsageError: an argument stands for nothing.
    """
    found: dict[Path | str, tuple[Path | str, PurePosixPath]] = {}
    for argument in arguments:
        pictures = list(_expand(argument, out))
        if not pictures:
            raise UsageError(f"{argument}: no picture there: expected a file, a folder, a pattern or an address")
        for origin, place in pictures:
            found.setdefault(origin if isinstance(origin, str) else origin.resolve(), (origin, place))
    origins, places = zip(*found.values(), strict=True)
    return [PhotoSource(origin, name) for origin, name in zip(origins, _name(places), strict=True)]


@contextmanager
def fetched(source: PhotoSource) -> Iterator[Path]:
    """Give the file of a picture; one at an address is downloaded, and removed afterwards.

    Raises:
        BenchError: the address does not give it; or the body has raised one, which then names the address.
    """
    if isinstance(source.origin, Path):
        yield source.origin
        return
    with tempfile.TemporaryDirectory(prefix="rc2l-bench-") as folder:
        file = Path(folder) / "picture"
        part = PartialFile(file)
        download(source.origin, part, size=None, resume=False)
        part.finish()
        try:
            yield file
        except BenchError as error:
            raise BenchError(str(error).replace(str(file), source.title)) from None


def _expand(argument: str, out: Path) -> Iterator[tuple[Path | str, PurePosixPath]]:
    """What one argument stands for, and under which name its results are kept."""
    path = Path(argument)
    if ADDRESS.match(argument):
        yield argument, PurePosixPath(_last_part(argument))
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in SUFFIXES and file.is_file() and not _is_result(file, out):
                yield file, PurePosixPath(file.relative_to(path).as_posix())
    elif path.is_file():
        yield path, PurePosixPath(path.name)
    elif WILD.search(argument):
        for file in map(Path, sorted(glob.glob(argument, recursive=True))):  # noqa: PTH207 - absolute patterns, too
            if file.is_file() and not _is_result(file, out):
                yield file, PurePosixPath(file.name)


def _is_result(file: Path, out: Path) -> bool:
    return any(file.resolve().is_relative_to((out / folder).resolve()) for folder in FOLDERS)


def _last_part(address: str) -> str:
    """The name of the file that an address ends with, harmless as the name of one here."""
    name = unquote(urlsplit(address).path).rpartition("/")[2]
    return re.sub(r"[^\w.-]", "_", name).lstrip(".") or "image"


def _name(places: Sequence[PurePosixPath]) -> list[str]:
    """Names without suffix; with it where two would be the same, and numbered where even that does not help."""
    bare = [place.with_suffix("").as_posix() for place in places]
    count = Counter(name.casefold() for name in bare)
    names, taken = [], Counter[str]()
    for place, name in zip(places, bare, strict=True):
        chosen = name if count[name.casefold()] == 1 else place.as_posix()
        taken[chosen.casefold()] += 1
        number = taken[chosen.casefold()]
        names.append(chosen if number == 1 else f"{chosen}-{number}")
    return names
