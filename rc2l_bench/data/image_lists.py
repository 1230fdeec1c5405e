"""Text files that list images, as people and published codes write them.

A line is an id, or the path of an image with or without leading folders, and perhaps after a blank, TAB, comma or
semicolon the path of its mask. Blanks inside names, backslashes, suffixes in any case, Windows line ends, a byte order
mark, empty lines and the form of Unicode do not matter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

from rc2l_bench.errors import BenchError, shorten

_SUFFIX = re.compile(r"(_leftImg8bit)?\.(jpe?g|png)$", re.IGNORECASE)
"""What is no part of an id. Cityscapes names its images so."""
_BETWEEN = re.compile(r"[\s,;]+")
"""What may stand between an image and its mask, and inside a name as well."""

_LONGEST = 8192
"""Characters of a line: two paths of the longest kind. All places where a name may end are tried."""


def normal(name: str) -> str:
    """Bring a name into the one form of Unicode (NFC) in which names are compared; macOS writes another one."""
    return unicodedata.normalize("NFC", name)


class Names:
    """Finds the image that a text names."""

    def __init__(self, ids: Iterable[str], aliases: Mapping[str, str] | None = None) -> None:
        """Take note of all images.

        Args:
            ids: in the form of `normal`.
            aliases: further names -> id, for instance files; those of several images are left out.
        """
        self._ids = dict.fromkeys(ids)
        self._others: dict[str, str | None] = {}
        for name, identity in (aliases or {}).items():
            for tail in _tails(_SUFFIX.sub("", normal(name))):
                known = self._others.setdefault(tail, identity)
                self._others[tail] = identity if known == identity else None

    def of_path(self, text: str) -> str | None:
        """The id of the image that a path names; leading folders may be others than here, or missing."""
        for tail in _tails(text):
            for name in (tail, _SUFFIX.sub("", tail)):
                if name in self._ids:
                    return name
                if found := self._others.get(name):
                    return found
        return None

    def of_line(self, line: str, where: str) -> str | None:
        """The id of the image that a line of a list names.

        Raises:
            BenchError: it may be one of several images.
        """
        line = normal(line).strip().replace("\\", "/")
        for whole in (line, _SUFFIX.sub("", line)):
            if whole in self._ids:
                return whole
        for start in _starts(line):
            if _SUFFIX.search(start) and (found := self.of_path(start)):
                return found
        # Without suffixes nobody can tell where the first name ends, unless only one of the ways leads to an image.
        ways = {found: start for start in [*list(_starts(line))[:1], line] if (found := self.of_path(start))}
        if len(ways) > 1:
            raise BenchError(
                f"{where}: '{shorten(line)}' may be {' or '.join(map(repr, ways))}: write ids alone, or with suffixes"
            )
        return next(iter(ways), None)


def canonical(line: str) -> str:
    """What the id of a line would be, whether or not there is such an image: for messages."""
    first = next((start for start in _starts(line) if _SUFFIX.search(start)), _BETWEEN.split(line)[0])
    return _SUFFIX.sub("", first.replace("\\", "/").rpartition("/")[2])


def read_lines(data: bytes, origin: str) -> list[tuple[int, str]]:
    """Number and text of the lines of a list that hold something.

    Raises:
        BenchError: not text, empty, or with a line that is too long for two paths.
    """
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise BenchError(f"{origin}: not a text file in UTF-8: expected one image per line") from None
    found = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise BenchError(f"{origin}: empty: expected one image per line")
    if long := [number for number, line in found if len(line) > _LONGEST]:
        raise BenchError(f"{origin}, line {long[0]}: longer than {_LONGEST} characters: expected one image per line")
    return found


def _starts(line: str) -> Iterator[str]:
    """Beginnings of a line that may be the first of several names, shortest first; quotes decide, if there are any."""
    if quoted := re.match(r"\"([^\"]+)\"", line):
        yield quoted[1]
        return
    yield from (line[: gap.start()] for gap in _BETWEEN.finditer(line))
    yield line


def _tails(path: str) -> Iterator[str]:
    """`a/b/c` -> `a/b/c`, `b/c`, `c`."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    yield from ("/".join(parts[first:]) for first in range(len(parts)))
