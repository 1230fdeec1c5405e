"""What a user is told when something is wrong: one line, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """The work failed. The message names the thing, what was expected, and what to do. Exit code 1."""

    exit_code = 1


class UsageError(BenchError):
    """The command, a name or a value in a configuration file is wrong. Exit code 2."""

    exit_code = 2


class DivergedError(BenchError):
    """A loss is no longer finite.

    Attributes:
        seconds: of training that were spent.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


def suggest(name: str, options: Iterable[str]) -> str:
    """Names what could have been meant.

    Returns:
        `did you mean 'x'?` for a near miss, else the list of valid names.
    """
    options = sorted(options)
    near = difflib.get_close_matches(name, options, n=1)
    return f"did you mean '{near[0]}'?" if near else f"valid: {', '.join(options) or 'none'}"
