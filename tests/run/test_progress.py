from __future__ import annotations

import math

import pytest
from rich.console import Console

from rc2l_bench.run import progress
from rc2l_bench.run.progress import Pace, Progress
from rc2l_bench.run.record import Record
from rc2l_bench.run.running import NOTE, find_running


def record(step: int, *, miou: float | None = None, seconds: float = 0.5) -> Record:
    evaluations = [] if miou is None else [(step, miou)]
    return Record(step=step, step_seconds=[seconds], history=[{"loss": 1.25}], evaluations=evaluations)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time that `perf_counter` tells."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_a_pace_counts_the_steps_of_this_session(clock):
    pace = Pace()
    pace.measure(record(41, seconds=0.5))
    clock[0] += 1.5
    assert pace.measure(record(44)) == pytest.approx(4 / 2.0)


def test_a_line_tells_loss_score_and_images_a_second(clock):
    shown = Progress("tiny", 10, 16, None)
    shown.note(record(1))
    clock[0] += 0.5
    assert shown.note(record(2, miou=0.5)) == "loss 1.250  mIoU 50.0  32 images/s"


def test_in_a_pipe_every_evaluation_is_a_line_and_nothing_else(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "console", Console(force_terminal=False))
    with Progress("tiny", 3, 16, tmp_path) as shown:
        shown.show(record(1))
        shown.show(record(2, miou=0.5))
        shown.show(record(3, miou=0.5))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  loss")[0] for line in lines] == ["tiny: step 2/3"]


def test_a_note_says_where_the_training_is_and_goes_with_it(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    with Progress("tiny", 10, 16, folder) as shown:
        shown.show(record(3, miou=0.5))
        found = find_running(tmp_path)
        assert [(run.title, run.step, run.steps, run.miou) for run in found] == [("tiny", 3, 10, 0.5)]
    assert not (folder / NOTE).exists()


def test_a_score_that_is_no_number_is_none_in_a_note():
    assert Progress("tiny", 10, 16, None).describe(record(3, miou=math.nan)).miou is None


def test_another_process_shows_nothing(capsys):
    with Progress("tiny", 3, 16, None) as shown:
        shown.show(record(1, miou=0.5))
    assert capsys.readouterr().out == ""
