from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_data
from running_data import FIELDS, ended, note

from rc2l_bench.run.owners import describe_process
from rc2l_bench.run.running import NOTE, PERIOD, RunningRun, find_running, write_note


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".rc2l/runs"


def test_a_process_that_is_gone_has_stopped(store):
    note(store / "a", pid=ended())
    assert [run.state(time.time()) for run in find_running(store)] == ["stopped"]


def test_another_process_of_the_same_number_is_not_taken_for_it(store):
    note(store / "a", born=1.0)
    assert [run.state(time.time()) for run in find_running(store)] == ["stopped"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"title": "x"}', b"\xff" * 9])
def test_a_note_that_cannot_be_read_is_left_out(store, content):
    note(store / "a")
    (store / "b").mkdir()
    (store / "b" / NOTE).write_bytes(content)
    assert [run.title for run in find_running(store)] == [FIELDS["title"]]


def test_a_disk_that_takes_no_note_stops_nothing(tmp_path):
    run = RunningRun(**(describe_process() | FIELDS | {"noted": 0.0}))
    write_note(tmp_path / "nowhere", run)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.slow
def test_a_killed_training_says_where_it_stopped(checkout, monkeypatch):
    long = {"default": {"steps": 100_000, "eval": {"evaluations": 1}}}
    tiny_data.write_yaml(checkout / "params.yaml", tiny_data.params(protocol=long))
    command = [
        sys.executable, "-m", "pipelines.train", "tiny", "1_4", "baselines/supervised", "0", "data/shards/tiny",
        "data/splits/tiny/1_4/seed0.json", "runs/a",
    ]  # fmt: skip
    training = subprocess.Popen(command, cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    monkeypatch.chdir(checkout)
    try:
        while not (found := [run for run in find_running() if run.step > 1]):
            assert training.poll() is None
            time.sleep(PERIOD / 4)
        assert found[0].pid == training.pid
        assert found[0].state(time.time()) == "running"
    finally:
        os.kill(training.pid, signal.SIGKILL)
        training.wait()
    assert [run.state(time.time()) for run in find_running()] == ["stopped"]


@pytest.mark.slow
def test_a_finished_training_leaves_no_note(checkout, launch):
    arguments = (
        "tiny",
        "1_4",
        "baselines/supervised",
        "0",
        "data/shards/tiny",
        "data/splits/tiny/1_4/seed0.json",
        "runs/a",
    )
    assert launch("pipelines.train", *arguments, cwd=checkout).returncode == 0
    assert list((checkout / ".rc2l/runs").glob("*/result")) != []
    assert list((checkout / ".rc2l/runs").glob(f"*/{NOTE}*")) == []
