"""Errors that reach the user as one line without a traceback, and hints at what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class BenchError(Exception):
    """Work that failed, exit code 1. The message names the thing, what was expected, and what to do.

    Attributes:
        common: whether all processes of a training meet it alike, so that one of them is enough to tell.
    """

    exit_code = 1
    common = False


class UsageError(BenchError):
    """A command, a name or a value in a configuration file that is wrong, exit code 2."""

    exit_code = 2
    common = True


class BusyError(BenchError):
    """Another process is on the same run, exit code 1; whoever has other work may do that first."""


class DivergedError(BenchError):
    """A loss that is no longer finite, exit code 1; tuning counts such a trial instead of stopping.

    Attributes:
        seconds: time spent in training until then.
    """

    common = True  # losses are averaged over the processes before anybody looks at them

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class PreemptedError(BaseException):
    """The process was asked to stop, and the same command continues the work. No error, so nothing may swallow it.

    Attributes:
        exit_code: `CONTINUE`, which sysexits.h calls a temporary failure; 130 after Ctrl-C.
    """

    CONTINUE = 75

    def __init__(self, message: str, exit_code: int = CONTINUE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def one_line(error: BaseException) -> str:
    """Give what an error says without its line breaks; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


class RefusedError(Exception):
    """A library cannot do what it was asked to do; whoever asked says so in words of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether the memory of the machine or of the GPU has run out; needs no torch, whose errors these may be."""
    torch_says = type(error).__name__ == "OutOfMemoryError" or "t allocate memory" in str(error)
    return isinstance(error, MemoryError) or torch_says


@contextmanager
def refusals() -> Iterator[None]:
    """Tell apart that torch or timm refuses to do something; to be put around one call of theirs.

    They have no exception of their own for it and raise whatever is at hand.

    Raises:
        RefusedError: they did; in one line why, and what they raised as its cause. Memory that ran out is none.
    """
    try:
        yield
    except (RuntimeError, TypeError, ValueError, KeyError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        raise RefusedError(one_line(error)[:200]) from error


def suggest(name: str, options: Iterable[str]) -> str:
    """Name the option that was probably meant.

    Args:
        name: what the user wrote.
        options: the valid names.

    Returns:
        `did you mean 'x'?` for a near miss, else the list of valid names.
    """
    options = sorted(options)
    near = difflib.get_close_matches(name, options, n=1)
    return f"did you mean '{near[0]}'?" if near else f"valid: {', '.join(options) or 'none'}"


def shorten(text: str) -> str:
    """Cut a text that a message quotes to 100 characters."""
    return text if len(text) <= 100 else f"{text[:99]}…"
