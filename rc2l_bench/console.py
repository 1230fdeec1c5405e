"""The terminal: one console, and one way to end with an error."""

from __future__ import annotations

import codecs
import functools
import io
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from rich.console import Console
from rich.markup import escape

from rc2l_bench.errors import BenchError, PreemptedError, is_out_of_memory

P = ParamSpec("P")
R = TypeVar("R")


class Terminal(Console):
    """A console that leaves it to `one_line_errors` how a command ends whose reader has gone."""

    def on_broken_pipe(self) -> None:
        """Pass on what rich would end the process for."""
        raise BrokenPipeError


console = Terminal(highlight=False)
errors = Terminal(stderr=True, highlight=False, soft_wrap=True)
LEAST_WIDTH = 80
"""Columns of a table. In a narrower terminal its lines run over, because digits that are cut off mislead."""
if console.width < LEAST_WIDTH:
    console.width = LEAST_WIDTH

_SPELLED = {
    "×": "x", "–": "-", "−": "-", "…": "...", "±": "+-", "²": "2", "·": "*", "≥": ">=", "≠": "!=", "σ": "sigma",
}  # fmt: skip
"""What a terminal shows that cannot show the sign itself."""

READER_GONE = 141
"""Exit code after SIGPIPE in a shell: 128 + 13."""
SMALLER = (
    "make smaller what is held at a time: in params.yaml batch, crop, net or eval.batch of the protocol, "
    "runtime.workers or runtime.cache_mb; or use fewer --jobs"
)
_NUMBER = re.compile(r"^\[Errno -?[0-9]+\] ")


def _open_streams() -> None:
    """Put the null device in the place of standard streams that are closed, or the next file opened would be one."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for good
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - likewise


def spell_out() -> None:
    """Let a terminal that cannot show a sign, for instance one of Latin-1, show another one instead of failing.

    Also for names of files that are no text in any encoding.
    """
    codecs.register_error("spell_out", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spell_out")


def _spell(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError), error
    return "".join(_SPELLED.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


def is_first_process() -> bool:
    """Whether this is the first of the processes of a training; known before `open_fabric`, which starts the others.

    Torchrun says it, or Fabric; a copy that srun has started beside others comes last, see `choose_launcher`.
    """
    ranks = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return next((rank for rank in ranks if rank is not None), "0") == "0"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user can cause into one line on stderr and an exit code.

    1 failed, 2 wrong use, 75 asked to stop (the same command continues), 130 Ctrl-C.
    """
    # Read once, when torch is imported, so it has to be there before: without it every process of a training with
    # several prints a paragraph on parameters without a gradient, which a warm-up makes on purpose.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    _open_streams()
    spell_out()
    try:
        yield
        sys.stdout.flush()  # here, because an error at the end of the interpreter is a traceback
    except BrokenPipeError:
        _send_nowhere(1, 2)  # the reader has gone, as `| head` does
        sys.exit(READER_GONE)
    except BenchError as error:
        if is_first_process() or not error.common:
            errors.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(error.exit_code)
    except OSError as error:
        errors.print(f"[bold red]error:[/] {escape(describe(error))}")
        sys.exit(1)
    except PreemptedError as error:
        if str(error):
            errors.print(escape(str(error)))
        sys.exit(error.exit_code)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        errors.print(f"[bold red]error:[/] {escape(_tell_memory(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("interrupted; the same command continues where this one stopped")
        sys.exit(130)
    finally:
        _drop_unwritten()


def _drop_unwritten() -> None:
    """Let go of output that cannot be written: the interpreter would try again at its end, and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        _send_nowhere(1)


def _send_nowhere(*descriptors: int) -> None:
    """Let all further output to descriptors go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)


def _tell_memory(error: BaseException) -> str:
    asked = re.search(r"allocate (?P<size>[0-9.]+ ?[a-zA-Z]+)", str(error))
    more = f" ({asked['size']} more were asked for)" if asked else ""
    return f"out of memory{more}: {SMALLER}"


def describe(error: OSError) -> str:
    """Tell an operating system error (full disk, read-only folder, missing file) in one line that names the file."""
    first = error.args[0] if error.args else None
    if isinstance(error, shutil.Error) and isinstance(first, list):  # what copying a folder collects: the first one
        _, target, reason = first[0]
        text = f"{target}: {re.sub(_NUMBER, '', str(reason))}"
    else:
        text = f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}"
    return " ".join(text.split())


def guarded(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command or a stage with `one_line_errors`."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with one_line_errors():
            return function(*args, **kwargs)

    return call
