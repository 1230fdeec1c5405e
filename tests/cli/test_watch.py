from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from commands_data import call
from running_data import FIELDS, ended, note

from rc2l_bench.run.running import QUIET, find_running


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".rc2l/runs"


def row(*arguments: str) -> list[str]:
    code, text = call("watch", *arguments)
    assert code == 0, text
    return next(line for line in text.splitlines() if "tiny" in line).split()


def test_a_training_is_a_row(store):
    note(store / "a")
    *cell, step, share, loss, miou, rate, left, memory, state = row("--once")
    assert " ".join(cell) == FIELDS["title"]
    assert (step, share, loss, miou, rate, state) == ("30/120", "25", "1.234", "45.6", "88", "running")
    assert left in ("1:02:05", "1:02:04", "1:02:03")
    assert 10 < float(memory) < 10_000


def test_what_is_not_known_yet_is_an_empty_place(store):
    note(store / "a", loss=None, miou=None)
    assert row()[7:9] == ["–", "–"]


def test_what_a_stopped_training_would_go_on_with_is_empty(store):
    note(store / "a", pid=ended())
    assert row()[-4:] == ["–", "–", "–", "stopped"]


def test_a_training_without_news_is_quiet(store):
    note(store / "a", noted=time.time() - QUIET - 1)
    assert row()[-1] == "quiet"


def test_other_machines_are_shown_when_asked_for(store):
    note(store / "a", host="elsewhere")
    assert "no training runs here" in call("watch")[1]
    assert row("--every-host")[-1] == "running"
    assert socket.gethostname() != "elsewhere"


def test_rows_are_in_the_order_of_their_titles(store):
    for name in ("b", "c", "a"):
        note(store / name, title=f"tiny {name}")
    assert [run.title for run in find_running(store)] == ["tiny a", "tiny b", "tiny c"]
