"""Terminals that cannot show every sign."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from rc2l_bench.console import one_line_errors
from rc2l_bench.errors import BenchError, PreemptedError, UsageError

SHOW = """
from rich.table import Table
from rc2l_bench.console import console, errors, guarded
from rc2l_bench.errors import BenchError

@guarded
def main():
    table = Table(title="mIoU, %")
    table.add_column("cell")
    table.add_row("57.1 ± 0.5 ×2.44 –")
    console.print(table)
    console.print({name!r}, markup=False)
    raise BenchError("2×3 … é \\u4e2d")

main()
"""


def show(encoding: str, name: str = "a") -> subprocess.CompletedProcess[bytes]:
    env = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    return subprocess.run([sys.executable, "-c", SHOW.format(name=name)], env=env, capture_output=True, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "koi8-r", "utf-8"])
def test_a_table_and_an_error_are_shown_in_any_encoding(encoding):
    done = show(encoding)
    assert done.returncode == 1
    assert "57.1" in done.stdout.decode(encoding)
    assert done.stderr.decode(encoding).startswith("error: 2")
    assert b"Traceback" not in done.stderr


def test_signs_that_are_not_there_are_spelled():
    done = show("ascii")
    assert "57.1 +- 0.5 x2.44 -" in done.stdout.decode()
    assert done.stderr.decode() == "error: 2x3 ... ? ?\n"


def test_a_terminal_that_has_the_signs_shows_them():
    assert "57.1 ± 0.5 ×2.44 –" in show("utf-8").stdout.decode()


def test_the_name_of_a_file_that_is_no_text_can_be_shown():
    assert "photo_?.png" in show("utf-8", os.fsdecode(b"photo_\xe9.png")).stdout.decode()


def run(script: str, redirection: str) -> subprocess.CompletedProcess[str]:
    """A command in a shell, with its output sent somewhere."""
    command = f'"{sys.executable}" -c "$SCRIPT" {redirection}'
    # Buffered as for most users, whatever the environment of the tests says.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | {"SCRIPT": script}
    return subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True)


MANY = """
from rc2l_bench.console import console, guarded
@guarded
def main():
    for number in range(100_000):
        console.print(number)
main()
"""

BUFFERED = """
from rc2l_bench.console import guarded
from rc2l_bench.errors import BenchError, UsageError
@guarded
def main():
    print("too little to be written at once")
    raise {error}
main()
"""

OPEN = """
import os
from rc2l_bench.console import console, errors, guarded
@guarded
def main():
    print("a")
    console.print("b")
    errors.print("c")
    assert os.open("/dev/null", os.O_RDONLY) > 2
main()
"""


def test_a_reader_that_goes_away_ends_a_command_without_a_word():
    done = run(MANY, "| head -1; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stdout, done.stderr) == (141, "0\n", "")


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stop_no_command_and_are_no_files(redirection):
    done = run(OPEN, redirection)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_output_that_cannot_be_written_is_an_error():
    done = run(MANY, "> /dev/full")
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        ("BenchError('bad')", 1, "error: bad\n"),
        ("UsageError('wrong')", 2, "error: wrong\n"),
        ("FileNotFoundError(2, 'gone', 'a.txt')", 1, "error: a.txt: gone\n"),
        ("KeyboardInterrupt", 130, "interrupted; the same command continues where this one stopped\n"),
    ],
)
def test_what_cannot_be_written_hides_no_error_and_no_exit_code(error, code, said):
    done = run(BUFFERED.format(error=error), "> /dev/full")
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize("columns", ["40", "10", "1"])
def test_digits_are_not_cut_off_in_a_narrow_terminal(columns):
    number = "57." + "1234567890" * 5
    script = SHOW.format(name="a").replace("57.1 ± 0.5 ×2.44 –", number)
    done = run(f"import os; os.environ['COLUMNS'] = '{columns}'\n{script}", "")
    assert number in done.stdout


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("a [bold]name[/] is wrong"), 2, "error: a [bold]name[/] is wrong"),
        (BenchError("it failed " * 40), 1, "error: " + "it failed " * 40),
        (PermissionError(13, "Permission denied", "/a/b"), 1, "error: /a/b: Permission denied"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device"),
        (
            shutil.Error([("a", "b/c", "[Errno 28] No space left on device"), ("a", "d", "[Errno 5] x")]),
            1,
            "error: b/c: No space left on device",
        ),
        (
            MemoryError("Unable to allocate 3.00 TiB for an array"),
            1,
            "error: out of memory (3.00 TiB more were asked for): make smaller what is held at a time",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000 bytes"),
            1,
            "error: out of memory (8000 bytes more were asked for): make smaller what is held at a time",
        ),
        (PreemptedError("stopped; go on"), 75, "stopped; go on"),
        (PreemptedError("", 0), 0, ""),
        (KeyboardInterrupt(), 130, "interrupted; the same command continues where this one stopped"),
    ],
)
def test_errors_are_one_line_and_a_code(capsys, error, code, line):
    with pytest.raises(SystemExit) as caught, one_line_errors():
        raise error
    assert caught.value.code == code
    said = capsys.readouterr().err.strip()
    assert said == line.strip() or said.startswith(f"{line}: in params.yaml batch")


def test_a_mistake_in_the_program_is_not_hidden():
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError
