"""Places of files, near and far away: patterns of many, variables for what is secret, and what may be shown."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from rc2l_bench.errors import UsageError

_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://")
_BRACES = re.compile(r"(?<!\$)\{([^{}$]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_SECRETS = re.compile(r"(?<=://)[^/?#\s]*@|\?[^\s'\")>]*")
_FILLED: dict[str, str] = {}
"""Values of environment variables that addresses were filled with, and how they were written."""
SHORTEST_SECRET = 4
"""Characters; shorter values, which stand in every other word, are not looked for."""
MOST_FILES = 1_000_000
"""That one pattern may stand for."""


def is_remote(text: str) -> bool:
    """Whether a text is an address and not a path."""
    return _REMOTE.match(text) is not None


def expand(pattern: str) -> list[str]:
    """List what a pattern stands for: `{000..123}` counts up with leading zeros, `{a,b}` chooses; `${NAME}` stays.

    Raises:
        UsageError: a range goes down, or the pattern stands for more than a million files.
    """
    parts = _BRACES.split(pattern)  # text, braces, text, braces, …, text
    choices = [[part] if number % 2 == 0 else _choices(part, pattern) for number, part in enumerate(parts)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MOST_FILES:
        raise UsageError(f"{without_secrets(pattern)}: stands for {count:,} files, at most {MOST_FILES:,} are taken")
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _choices(braces: str, pattern: str) -> list[str]:
    found = _RANGE.fullmatch(braces)
    if not found:
        return braces.split(",")
    first, last = int(found[1]), int(found[2])
    if not first <= last < first + 10 * MOST_FILES:
        raise UsageError(f"{without_secrets(pattern)}: {{{braces}}} must count up")
    return [str(number).zfill(len(found[1])) for number in range(first, last + 1)]


def list_tars(text: str) -> list[str]:
    """List the tars that a pattern stands for, sorted: paths, or addresses in which `${NAME}` is not filled in.

    Raises:
        UsageError: there are none on the disk.
    """
    expanded = expand(text)
    if is_remote(text):
        for address in expanded:
            _refuse_user(address)
        return sorted(set(expanded))
    found = sorted({path for one in expanded for path in glob.glob(str(Path(one).expanduser()))})  # noqa: PTH207
    missing = [one for one in expanded if not glob.has_magic(one) and not Path(one).expanduser().is_file()]
    if missing or not found:
        raise UsageError(f"pool: {missing[0] if missing else text}: no such file or folder (seen from {Path.cwd()})")
    return found


def split_base(addresses: Sequence[str]) -> tuple[str, list[str]]:
    """Divide addresses into the folder that they share and their names inside it.

    What comes after a `?` must be the same in all; it stays with the folder.

    Raises:
        UsageError: they are on different servers, or a user or password is written in one.
    """
    parts = [urlsplit(address) for address in addresses]
    first = parts[0]
    for part, address in zip(parts, addresses, strict=True):
        _refuse_user(address)
        if (part.scheme, part.netloc, part.query) != (first.scheme, first.netloc, first.query):
            raise UsageError(
                f"{without_secrets(address)}: is elsewhere than {without_secrets(addresses[0])}: list it apart"
            )
    paths = [part.path for part in parts]
    levels = zip(*(path.split("/")[:-1] for path in paths), strict=False)
    folder = "".join(f"{level[0]}/" for level in itertools.takewhile(lambda level: len(set(level)) == 1, levels))
    base = urlunsplit((first.scheme, first.netloc, folder, first.query, ""))
    return base, [path.removeprefix(folder) for path in paths]


def _refuse_user(address: str) -> None:
    if urlsplit(address).username is not None:
        raise UsageError(
            f"{without_secrets(address)}: holds a user or a password: put them into ~/.netrc, or write ${{NAME}} "
            "for what the environment variable NAME holds"
        )


def join(base: str, name: str) -> str:
    """Give the address of a file in a folder, as `split_base` divides it."""
    parts = urlsplit(base)
    return urlunsplit(parts._replace(path=parts.path + name))


def with_environment(address: str) -> str:
    """Put the values of environment variables in for `${NAME}`; the result is for requests only, never to be shown.

    Raises:
        UsageError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise UsageError(f"{without_secrets(address)}: the environment variable {match[1]} is not set")
        found = os.environ[match[1]]
        if len(found) >= SHORTEST_SECRET:
            _FILLED[found] = match[0]
        return found

    return _VARIABLE.sub(value, address)


def without_secrets(text: str) -> str:
    """Leave out users, passwords and queries of all addresses in a text, so that it may be shown and stored.

    What stood for a variable is the variable again: an error of the network quotes the address that was asked for.
    """
    for value, name in sorted(_FILLED.items(), key=lambda pair: -len(pair[0])):  # one may hold another
        text = text.replace(value, name)
    return _SECRETS.sub("", text)
