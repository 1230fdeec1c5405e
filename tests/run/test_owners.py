"""Who works on a run, and whether it is still there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import psutil
import pytest
from running_data import ended

from rc2l_bench.run.owners import describe_process, job_of_this_process, lives, this_process


@pytest.fixture(autouse=True)
def no_job(monkeypatch):
    for name in ("ARRAY_JOB_ID", "ARRAY_TASK_ID", "JOB_ID", "RESTART_COUNT"):
        monkeypatch.delenv(f"SLURM_{name}", raising=False)


def join(monkeypatch, **variables: str) -> None:
    """Make this process a part of a job."""
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name.upper()}", value)


def test_a_process_is_named_by_its_machine_its_number_and_its_birth():
    assert describe_process() == {
        "host": socket.gethostname(), "pid": os.getpid(), "born": psutil.Process().create_time(),
    }  # fmt: skip


def test_this_process_is_there():
    assert not this_process().is_gone()


def test_a_process_of_this_machine_that_has_ended_is_gone():
    assert this_process().model_copy(update={"pid": ended()}).is_gone()


def test_a_number_that_another_process_was_given_is_not_the_same_process():
    born = psutil.Process().create_time()
    assert lives(os.getpid(), born + 0.5)
    assert not lives(os.getpid(), born - 5)
    assert this_process().model_copy(update={"born": born - 5}).is_gone()


def test_a_process_that_has_ended_and_was_not_fetched_yet_does_not_live():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    born = psutil.Process(process.pid).create_time()
    assert lives(process.pid, born)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not lives(process.pid, born)
    process.communicate()


def test_of_a_process_elsewhere_nobody_knows():
    assert not this_process().model_copy(update={"place": "elsewhere", "pid": ended()}).is_gone()


@pytest.mark.parametrize(("attempt", "gone"), [("1", False), ("2", True), ("", False)])
def test_a_job_is_started_again_after_its_former_process_is_gone(monkeypatch, attempt, gone):
    former = this_process().model_copy(update={"place": "elsewhere", "job": "77", "attempt": 1})
    join(monkeypatch, job_id="77", restart_count=attempt)
    assert former.is_gone() == gone


def test_another_job_says_nothing_of_a_process(monkeypatch):
    former = this_process().model_copy(update={"place": "elsewhere", "job": "77", "attempt": 1})
    join(monkeypatch, job_id="78", restart_count="5")
    assert not former.is_gone()


@pytest.mark.parametrize(("variables", "job"), [
    ({}, ("", 0)),
    ({"job_id": "79"}, ("79", 0)),
    ({"job_id": "79", "array_job_id": "77", "array_task_id": "4", "restart_count": "2"}, ("77_4", 2)),
    ({"array_task_id": "4"}, ("", 0)),
    ({"job_id": "79", "restart_count": "many"}, ("79", 0)),
])  # fmt: skip
def test_a_job_has_the_name_that_slurm_shows(monkeypatch, variables, job):
    join(monkeypatch, **variables)
    assert job_of_this_process() == job
    assert (this_process().job, this_process().attempt) == job


def test_a_few_words_name_an_owner(monkeypatch):
    assert this_process().describe() == f"{socket.gethostname()}, process {os.getpid()}"
    join(monkeypatch, job_id="79")
    assert this_process().describe().endswith(f"process {os.getpid()}, job 79")
