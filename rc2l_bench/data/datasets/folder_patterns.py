"""Folders and globs of the user: which files they name, and what they stand for in each.

`*` is any part of a name, `**` any number of folders, and nothing else is special. Names compare in one form of
Unicode, suffixes of pictures without case; `~` is the home folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rc2l_bench.data.image_lists import normal
from rc2l_bench.errors import UsageError

FORMATS = (".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Suffixes of pictures, lower case: those that are read, and those that a user has to convert."""
MOST_FILES = 1_000_000
"""So many files under one folder are looked at: a pattern such as `~/*` must not read a whole disk."""


@dataclass(frozen=True, slots=True)
class StarText:
    """What the stars of a pattern stand for in a file.

    Attributes:
        name: the last one, without the suffix.
        whole: all of them, with `/` between.
    """

    name: str
    whole: str


class Pattern:
    """A glob, or a folder, which means `folder/*`."""

    def __init__(self, text: str, where: str) -> None:
        """Take a pattern apart.

        Args:
            text: the pattern.
            where: the key of the yaml, for messages.

        Raises:
            UsageError: the folder is not there, or the name of the file has not exactly one `*`.
        """
        self.text = text
        self.where = where
        parts = user_path(text).parts
        fixed = next((n for n, part in enumerate(parts) if "*" in part), len(parts))
        self.folder = _find_folder(Path(*parts[:fixed]), where)
        rest = list(parts[fixed:]) or ["*"]
        if rest[-1].count("*") != 1:
            raise UsageError(f"{where}: '{text}': the file name needs exactly one *, which stands for the id")
        self.deep = len(rest) > 1
        self._has_suffix = Path(rest[-1]).suffix.lower() in FORMATS
        self._expression = _expression(rest)

    def match(self, path: Path) -> StarText | None:
        """Find what the stars stand for in a file under the folder; None = the pattern does not name it."""
        found = self._expression.fullmatch(normal(path.relative_to(self.folder).as_posix()))
        if found is None or path.name.startswith("."):
            return None
        groups = [group for group in found.groups() if group]
        if not self._has_suffix:
            groups[-1] = groups[-1].removesuffix(path.suffix)
        return StarText(groups[-1], "/".join(groups))

    def files(self) -> Iterator[Path]:
        """All files under the folder, at any depth, sorted folder by folder; hidden folders are passed over.

        Raises:
            UsageError: there are more than `MOST_FILES`.
        """
        count, seen = 0, set()
        for place, folders, names in os.walk(self.folder, followlinks=True):
            state = Path(place).stat()
            if (state.st_dev, state.st_ino) in seen:  # links may lead round in a circle
                folders.clear()
                continue
            seen.add((state.st_dev, state.st_ino))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (Path(place, name) for name in sorted(names))
            count += len(names)
            if count > MOST_FILES:
                raise UsageError(
                    f"{self.where}: '{self.text}': more than {MOST_FILES:,} files under {self.folder}: name a folder "
                    "that holds the images alone"
                )


def user_path(text: str) -> Path:
    """A path as a user writes it, `~` included."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser fails where there is no home folder


def lies_under(texts: Iterable[str]) -> Callable[[Path], bool]:
    """Make a test whether a file is one of those that globs name, or lies at any depth in a folder that they name."""
    wholes = [_expression([*user_path(text).absolute().parts[1:]], inside=True) for text in texts]

    def test(path: Path) -> bool:
        name = normal(path.absolute().as_posix()).lstrip("/")
        return any(whole.fullmatch(name) for whole in wholes)

    return test


def _expression(parts: list[str], *, inside: bool = False) -> re.Pattern[str]:
    """Matches a path of such parts, with one group for each star; `inside`: or one in the folder that it is."""
    *folders, name = map(normal, parts)
    star = "([^/]*)" if inside else "([^/]+)"
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a pattern is no path
    if suffix.lower() not in FORMATS:
        stem, suffix = name, ""
    steps = ["(?:(.+)/)?" if part == "**" else f"{_stars(part, '([^/]*)')}/" for part in folders]
    last = "(.+)" if inside and name == "**" else _stars(stem, star)
    return re.compile(f"{''.join(steps)}{last}(?i:{re.escape(suffix)}){'(?:/.*)?' * inside}", re.DOTALL)


def _stars(part: str, star: str) -> str:
    return star.join(map(re.escape, part.split("*")))


def _find_folder(folder: Path, where: str) -> Path:
    """A folder by its name in any form of Unicode."""
    found = Path()
    for part in folder.parts:
        step = found / part
        if not step.exists() and found.is_dir():
            step = next((other for other in found.iterdir() if normal(other.name) == normal(part)), step)
        found = step
    if not found.is_dir():
        raise UsageError(f"{where}: {folder}: no such folder (seen from {Path.cwd()})")
    return found
