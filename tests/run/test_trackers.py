"""Trackers hear of a training what history.csv says of it, and cannot touch it, whatever becomes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest
from trackers_data import HEAD, curves, train

from rc2l_bench.run import trackers
from rc2l_bench.run.record import Record
from rc2l_bench.run.trackers import TrackerPipe, Trackers, head_of


def test_an_interrupted_session_is_shown_once(tmp_path, monkeypatch):
    """What was shown beyond the last checkpoint is trained, and shown, again."""
    monkeypatch.chdir(tmp_path)
    for begin, rows in ((0, [(5, 1.0), (10, 2.0), (15, 9.0)]), (10, [(15, 3.0), (20, 4.0)])):
        with Trackers(["tensorboard"], HEAD) as found:
            old = [{"step": begin, "loss": 0.0}] if begin else []
            found.resume(Record(history=old))
            for count in range(len(rows)):
                found.show(Record(history=old + [{"step": s, "loss": v} for s, v in rows[: count + 1]]))
    [folder] = (tmp_path / ".rc2l/trackers/tensorboard/tiny/1_4/baselines/cps+plain/seed0").iterdir()
    assert curves(folder) == {"loss": [(5, 1.0), (10, 2.0), (15, 3.0), (20, 4.0)]}


@pytest.mark.slow
def test_a_tracker_moves_no_number_and_no_fingerprint(checkout, launch):
    train(checkout, launch)
    before = {name: (checkout / "runs/a" / name).read_bytes() for name in ("history.csv", "model.safetensors")}
    folders = {path.name for path in (checkout / ".rc2l/runs").iterdir()}
    for folder in folders:
        (checkout / ".rc2l/runs" / folder / "result").rename(checkout / f"old-{folder}")
    train(checkout, launch, "tensorboard")
    assert {path.name for path in (checkout / ".rc2l/runs").iterdir()} == folders
    assert {name: (checkout / "runs/a" / name).read_bytes() for name in before} == before


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A tracker whose process stands still."""
    monkeypatch.chdir(tmp_path)
    pipe = TrackerPipe("tensorboard", HEAD)
    os.kill(pipe.process.pid, signal.SIGSTOP)
    return pipe


def test_a_tracker_that_stands_still_is_given_up_and_killed(stopped, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "PATIENCE", 1.0)
    stopped.send({"row": {"step": 1, "loss": 1.0}})
    stopped.close(time.monotonic() + 1.0)
    assert stopped.process.poll() == -signal.SIGKILL
    assert "was not done 1 s after the training; given up" in capsys.readouterr().err


def test_a_tracker_that_does_not_read_takes_no_more_memory(stopped, capsys):
    for step in range(40):
        stopped.send({"row": {"step": step, "loss": 1.0, "x" * 50_000: 1.0}})
    assert not stopped.alive
    assert len(stopped.waiting) < trackers.MOST_WAITING + 100_000
    assert "does not read what it is sent" in capsys.readouterr().err
    stopped.close(time.monotonic())


def test_a_killed_training_leaves_no_tracker_behind(tmp_path):
    code = (
        "import json, os, sys, time; from rc2l_bench.run.trackers import TrackerPipe\n"
        f"pipe = TrackerPipe('tensorboard', json.loads({json.dumps(json.dumps(HEAD))}))\n"
        "print(pipe.process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert psutil.wait_procs([child], timeout=60)[0] == [child]


def test_rows_of_an_earlier_session_are_not_told_again(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(trackers, "TrackerPipe", lambda _, head: sent.append(head))
    monkeypatch.setattr(Trackers, "send", lambda _, line: sent.append(line))
    rows = [{"step": 5, "loss": 1.0, "miou": None}, {"step": 10, "loss": 2.0, "miou": 0.5}]
    found = Trackers(["wandb"], HEAD)
    found.resume(Record(history=rows[:1]))
    found.show(Record(history=rows[:1]))  # a step after the checkpoint, before the next row
    found.show(Record(history=rows))
    assert sent == [HEAD | {"begin": 5}, {"row": {"step": 10, "loss": 2.0, "miou": 0.5}}]


def test_settings_are_flat(protocol):
    provenance = {
        "cell": {}, "fingerprint": "f", "protocol": protocol.model_dump(mode="json"), "runtime": {"threads": 1},
        "method_config": {"views": {"strong": 2}},
    }  # fmt: skip
    settings = head_of(provenance, "t")["settings"]
    assert settings["protocol.optimiser.lr"] == 0.003
    assert settings["method_config.views.strong"] == 2
    assert settings["protocol.crop"] == "[32, 32]"
    assert settings["runtime.threads"] == 1
