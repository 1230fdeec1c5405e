"""Calls of the command line inside the test's own process."""

from __future__ import annotations

from typer.testing import CliRunner

from rc2l_bench.cli import app as cli


def call(*arguments: str, **env: str) -> tuple[int, str]:
    """Exit code, and all that was written but for the protocol, on one line where it was wrapped."""
    found = CliRunner().invoke(cli.app, list(arguments), env={"COLUMNS": "300", "TERM": "dumb", **env})
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, "".join(line for line in found.output.splitlines(True) if ": protocol '" not in line)


def refused(*arguments: str) -> str:
    """The one line that a wrong use gives."""
    code, text = call(*arguments)
    assert code == 2, text
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    assert lines[0].startswith("error: ")
    return lines[0]
