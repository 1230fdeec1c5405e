"""Cells as array jobs: what is submitted, and what is said of it. Slurm's commands are not the real ones here."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import run_data
from slurm_data import CLUSTER, ITEMS, TITLES, note

from rc2l_bench.config import Params, load
from rc2l_bench.errors import BenchError
from rc2l_bench.run import array_jobs
from rc2l_bench.run.array_jobs import list_tasks, submit_cells, submit_trials
from rc2l_bench.run.slurm import Place
from rc2l_bench.run.store import STORE
from rc2l_bench.run.submissions import JOBS, find_submissions
from rc2l_bench.run.tuning import open_studies


def told() -> list[tuple[str, str]]:
    return [(task.standing, task.why) for task in list_tasks()]


def test_cells_become_one_array(slurm):
    sent = submit_cells(ITEMS, CLUSTER)
    assert (sent.code, sent.jobs, sent.tasks, sent.known, sent.stored) == (0, (41,), 2, 0, 0)
    assert "--array=0-1" in slurm.asked("sbatch")
    submission = find_submissions()[0]
    assert list(submission.places()) == [Place(41, 0), Place(41, 1)]
    assert [submission.task(number).title for number in range(2)] == TITLES
    assert submission.task(1).module[:5] == ["pipelines.train", "tiny", "1_4", "baselines/supervised", "1"]


def test_the_job_script_is_quoted(slurm, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/a b/$(touch x)/python")
    submit_cells(ITEMS[:1], CLUSTER.model_copy(update={"setup": ["module load cuda"]}))
    folder = find_submissions()[0].folder
    first, *setup, last = (folder / "job.sh").read_text().splitlines()
    assert (first, setup) == ("#!/bin/bash", ["set -e", "module load cuda"])
    words = ["exec", "/a b/$(touch x)/python", "-m", "rc2l_bench.run.array_task", str(folder)]
    assert shlex.split(last) == words
    assert "'/a b/$(touch x)/python'" in last


def test_an_array_is_as_long_as_the_cluster_takes(slurm):
    slurm.answer("scontrol-show-config", "MaxArraySize = 1\n")
    assert submit_cells(ITEMS, CLUSTER).jobs == (41, 41)
    assert len(find_submissions()) == 2


def test_what_is_in_the_queue_is_not_submitted_again(slurm):
    submit_cells(ITEMS, CLUSTER)
    slurm.answer("squeue", "41 1 PENDING (Priority)\n")
    sent = submit_cells(ITEMS, CLUSTER)
    assert (sent.tasks, sent.known) == (1, 1)
    assert find_submissions()[-1].task(0).title == TITLES[0]


def test_a_refused_array_leaves_nothing_behind(slurm):
    slurm.refuse("sbatch", "sbatch: error: Batch job submission failed: Access/permission denied\n")
    with pytest.raises(BenchError, match="Access/permission denied"):
        submit_cells(ITEMS, CLUSTER)
    assert list(JOBS.iterdir()) == []


def test_a_finished_run_is_handed_out_and_not_submitted(slurm, jobs_checkout):
    run_data.train(jobs_checkout, "baselines/supervised", 1, protocol={"default": {"steps": 2}})
    STORE.parent.mkdir()
    STORE.symlink_to(jobs_checkout / STORE)
    sent = submit_cells(ITEMS, CLUSTER)
    assert (sent.tasks, sent.stored) == (1, 1)
    assert find_submissions()[0].task(0).title == TITLES[0]
    assert (Path("runs/tiny/1_4/baselines/supervised/seed1") / "metrics.json").is_file()
    assert submit_cells(ITEMS[1:], CLUSTER).stored == 1, "and is up to date then"


def test_a_stage_that_fails_ends_it(slurm, monkeypatch):
    monkeypatch.setattr(array_jobs, "carry_out_data", lambda _: 3)
    assert submit_cells(ITEMS, CLUSTER).code == 3
    assert slurm.asked("sbatch") == []


def test_before_the_first_submission_there_is_nothing_to_ask(slurm):
    assert list_tasks() == []
    assert slurm.asked("squeue") == []


def test_what_waits_and_what_runs(slurm):
    submit_cells(ITEMS, CLUSTER)
    slurm.answer("squeue", "41 0 RUNNING n1\n41 1 PENDING (QOSMaxJobs)\n")
    note(0, "running", restarts=2)
    assert told() == [("runs", ""), ("waits", "QOSMaxJobs")]
    assert (list_tasks()[0].where, list_tasks()[0].restarts) == ("n1", 2)


@pytest.mark.parametrize(("line", "why"), [
    ("41 0 PENDING (BeginTime)", "BeginTime"), ("41 0 COMPLETING n1", "goes back into the queue"),
])  # fmt: skip
def test_what_was_stopped_waits_again(slurm, line, why):
    submit_cells(ITEMS[:1], CLUSTER)
    note(0, "stopped", 75, restarts=1)
    slurm.answer("squeue", f"{line}\n")
    assert told() == [("waits", why)]
    assert list_tasks()[0].restarts == 2


def test_what_was_stopped_and_is_in_no_queue_has_to_be_submitted(slurm):
    submit_cells(ITEMS[:1], CLUSTER)
    note(0, "stopped", 75)
    assert told() == [("stopped", "was not put back into the queue: submit again, it continues")]
    slurm.answer("scontrol-show-job", "JobId=43 JobState=CANCELLED Reason=None\n")
    assert told() == [("stopped", "was cancelled: submit again, it continues")]


@pytest.mark.parametrize(("state", "code", "seen"), [
    ("cancelled", 75, ("stopped", "was cancelled: submit again, it continues")), ("done", 0, ("done", "")),
    ("failed", 2, ("failed", "exit code 2")),
])  # fmt: skip
def test_what_a_task_says_of_its_end_counts_though_slurm_still_shows_it(slurm, state, code, seen):
    submit_cells(ITEMS[:1], CLUSTER)
    note(0, state, code)
    slurm.answer("squeue", "41 0 COMPLETING n1\n")
    assert told() == [seen]


def test_a_failure_is_told_by_the_line_of_its_log(slurm):
    submit_cells(ITEMS, CLUSTER)
    for number in range(2):
        note(number, "failed", 1)
    find_submissions()[0].log(0).write_text("step 3\nerror: loss is nan\nTraceback of something\n")
    assert told() == [("failed", "error: loss is nan"), ("failed", "exit code 1")]


@pytest.mark.parametrize(("state", "told_as"), [
    ("TIMEOUT", "hit its time limit before it could write a checkpoint"), ("NODE_FAIL", "its node failed"),
    ("OUT_OF_MEMORY", "ran out of memory: give more memory_gb"), ("CANCELLED", "was cancelled"),
    ("BOOT_FAIL", r"ended without a word \(BOOT_FAIL\)"),
])  # fmt: skip
def test_what_could_not_speak_is_spoken_for_by_slurm(slurm, state, told_as):
    submit_cells(ITEMS[:1], CLUSTER)
    note(0, "running")
    slurm.answer("scontrol-show-job", f"JobId=43 JobState={state} Reason=None\n")
    [(standing, why)] = told()
    assert standing == "failed"
    assert re.match(told_as, why)


def test_when_slurm_has_forgotten_a_task_its_log_speaks(slurm):
    submit_cells(ITEMS[:1], CLUSTER)
    note(0, "running")
    slurm.refuse("scontrol-show-job", "slurm_load_jobs error: Invalid job id specified\n")
    find_submissions()[0].log(0).write_text("slurmstepd: error: *** JOB 41 CANCELLED DUE TO TIME LIMIT ***\n")
    assert told() == [("failed", "slurmstepd: error: *** JOB 41 CANCELLED DUE TO TIME LIMIT ***")]


def test_a_failure_that_was_mended_elsewhere_is_none(slurm, jobs_checkout):
    submit_cells(ITEMS, CLUSTER)
    for number in range(2):
        note(number, "failed", 1)
    carry_out_elsewhere(jobs_checkout)
    assert told() == [("failed", "exit code 1"), ("done", "")]


def test_a_failure_that_was_mended_in_the_sources_and_carried_out_elsewhere_is_none(slurm, jobs_checkout):
    submit_cells(ITEMS[1:], CLUSTER)
    note(0, "failed", 1)
    submission = find_submissions()[0]
    task = submission.task(0)
    submission.write_task(0, task.model_copy(update={"expected": task.expected | {"fingerprint": "former"}}))
    assert told() == [("failed", "exit code 1")]
    carry_out_elsewhere(jobs_checkout)
    assert told() == [("done", "")]


def carry_out_elsewhere(root: Path) -> None:
    """The second cell, in a store that is then this one's, too."""
    run_data.train(root, "baselines/supervised", 1, protocol={"default": {"steps": 2}})
    STORE.parent.mkdir(exist_ok=True)
    STORE.symlink_to(root / STORE)


def test_of_a_cell_only_the_last_submission_counts(slurm):
    submit_cells(ITEMS, CLUSTER)
    note(1, "failed", 1)
    slurm.answer("sbatch", "55\n")
    slurm.answer("squeue", "41 0 RUNNING n1\n")
    submit_cells(ITEMS, CLUSTER)
    slurm.answer("squeue", "41 0 RUNNING n1\n55 0 PENDING (Priority)\n")
    assert [(task.title, str(task.place), task.standing) for task in list_tasks()] == [
        (TITLES[0], "41_0", "runs"), (TITLES[1], "55_0", "waits"),
    ]  # fmt: skip


def submit_tiny_trials() -> array_jobs.Sent:
    studies = open_studies("tiny", ["baselines/supervised"], load(Params, Path("params.yaml")))
    return submit_trials("tiny", studies, CLUSTER)


def test_trials_become_one_array(slurm):
    assert submit_tiny_trials() == array_jobs.Sent(jobs=(41,), tasks=2)
    titles = [find_submissions()[0].task(number).title for number in range(2)]
    assert titles == [f"tuning-tiny 1_2 baselines/supervised seed 0 trial {number}" for number in (1, 2)]
    slurm.answer("squeue", "41 0 RUNNING n1\n")
    assert submit_tiny_trials() == array_jobs.Sent(jobs=(41,), tasks=1, known=1)


def test_a_trial_that_diverged_is_not_submitted_again(slurm):
    submit_tiny_trials()
    task = find_submissions()[0].task(0)
    answer = {"fingerprint": task.expected["fingerprint"], "diverged": True}
    Path(task.module[1]).with_suffix(".json").write_text(json.dumps(answer))
    assert submit_tiny_trials() == array_jobs.Sent(jobs=(41,), tasks=1, stored=1)
