"""Cells as array jobs: what is submitted, and what is said of it. Slurm's commands are not the real ones here."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import run_data
import tiny_data
from commands_data import call, refused
from slurm_data import FakeSlurm, put_on_path

from rc2l_bench.cluster import ClusterConfig
from rc2l_bench.config import Params, load
from rc2l_bench.errors import BenchError, PreemptedError
from rc2l_bench.run import array_jobs, array_task, assignments
from rc2l_bench.run.array_jobs import list_tasks, submit_cells, submit_trials
from rc2l_bench.run.slurm import Place
from rc2l_bench.run.store import STORE
from rc2l_bench.run.submissions import JOBS, TaskState, find_submissions
from rc2l_bench.run.tuning import open_studies
from rc2l_bench.schema import read_yaml

PLAIN = read_yaml(tiny_data.ROOT / "cluster.yaml")
CLUSTER = ClusterConfig.model_validate_json(json.dumps(PLAIN))
ITEMS = [{"dataset": "tiny", "split": "1_4", "method": "baselines/supervised", "seed": str(seed)} for seed in (0, 1)]
TITLES = [f"tiny 1_4 baselines/supervised seed {seed}" for seed in (0, 1)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A checkout with data."""
    root = tmp_path_factory.mktemp("made")
    tiny_data.write_checkout(root, protocol={"default": {"steps": 2}})
    tiny_data.write_data(root, "tuning-tiny", "1_2", seeds=[0])
    tiny_data.write_yaml(root / "cluster.yaml", PLAIN)
    return root


@pytest.fixture
def fake(made, tmp_path, monkeypatch) -> FakeSlurm:
    """A checkout without jobs whose data are up to date, on a machine with Slurm."""
    for name in ("data", "baselines", "pipelines", "dvc.yaml", "params.yaml", "cluster.yaml"):
        (tmp_path / name).symlink_to(made / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(array_jobs, "carry_out_data", lambda _: 0)
    return put_on_path(tmp_path / "bin", monkeypatch)


def note(number: int, state: str, code: int = 0, restarts: int = 0) -> None:
    known = TaskState.model_validate({"state": state, "code": code, "host": "n1", "restarts": restarts})
    find_submissions()[-1].write_state(number, known)


def told() -> list[tuple[str, str]]:
    return [(task.standing, task.why) for task in list_tasks()]


def test_cells_become_one_array(fake):
    sent = submit_cells(ITEMS, CLUSTER)
    assert (sent.code, sent.jobs, sent.tasks, sent.known, sent.stored) == (0, (41,), 2, 0, 0)
    assert "--array=0-1" in fake.asked("sbatch")
    submission = find_submissions()[0]
    assert list(submission.places()) == [Place(41, 0), Place(41, 1)]
    assert [submission.task(number).title for number in range(2)] == TITLES
    assert submission.task(1).module[:5] == ["pipelines.train", "tiny", "1_4", "baselines/supervised", "1"]


def test_the_job_script_is_quoted(fake, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/a b/$(touch x)/python")
    submit_cells(ITEMS[:1], CLUSTER.model_copy(update={"setup": ["module load cuda"]}))
    folder = find_submissions()[0].folder
    first, *setup, last = (folder / "job.sh").read_text().splitlines()
    assert (first, setup) == ("#!/bin/bash", ["set -e", "module load cuda"])
    words = ["exec", "/a b/$(touch x)/python", "-m", "rc2l_bench.run.array_task", str(folder)]
    assert shlex.split(last) == words
    assert "'/a b/$(touch x)/python'" in last


def test_an_array_is_as_long_as_the_cluster_takes(fake):
    fake.answer("scontrol-show-config", "MaxArraySize = 1\n")
    assert submit_cells(ITEMS, CLUSTER).jobs == (41, 41)
    assert len(find_submissions()) == 2


def test_what_is_in_the_queue_is_not_submitted_again(fake):
    submit_cells(ITEMS, CLUSTER)
    fake.answer("squeue", "41 1 PENDING (Priority)\n")
    sent = submit_cells(ITEMS, CLUSTER)
    assert (sent.tasks, sent.known) == (1, 1)
    assert find_submissions()[-1].task(0).title == TITLES[0]


def test_a_refused_array_leaves_nothing_behind(fake):
    fake.refuse("sbatch", "sbatch: error: Batch job submission failed: Access/permission denied\n")
    with pytest.raises(BenchError, match="Access/permission denied"):
        submit_cells(ITEMS, CLUSTER)
    assert list(JOBS.iterdir()) == []


def test_a_finished_run_is_handed_out_and_not_submitted(fake, made):
    run_data.train(made, "baselines/supervised", 1, protocol={"default": {"steps": 2}})
    STORE.parent.mkdir()
    STORE.symlink_to(made / STORE)
    sent = submit_cells(ITEMS, CLUSTER)
    assert (sent.tasks, sent.stored) == (1, 1)
    assert find_submissions()[0].task(0).title == TITLES[0]
    assert (Path("runs/tiny/1_4/baselines/supervised/seed1") / "metrics.json").is_file()
    assert submit_cells(ITEMS[1:], CLUSTER).stored == 1, "and is up to date then"


def test_a_stage_that_fails_ends_it(fake, monkeypatch):
    monkeypatch.setattr(array_jobs, "carry_out_data", lambda _: 3)
    assert submit_cells(ITEMS, CLUSTER).code == 3
    assert fake.asked("sbatch") == []


def test_before_the_first_submission_there_is_nothing_to_ask(fake):
    assert list_tasks() == []
    assert fake.asked("squeue") == []


def test_what_waits_and_what_runs(fake):
    submit_cells(ITEMS, CLUSTER)
    fake.answer("squeue", "41 0 RUNNING n1\n41 1 PENDING (QOSMaxJobs)\n")
    note(0, "running", restarts=2)
    assert told() == [("runs", ""), ("waits", "QOSMaxJobs")]
    assert (list_tasks()[0].where, list_tasks()[0].restarts) == ("n1", 2)


@pytest.mark.parametrize(("line", "why"), [
    ("41 0 PENDING (BeginTime)", "BeginTime"), ("41 0 COMPLETING n1", "goes back into the queue"),
])  # fmt: skip
def test_what_was_stopped_waits_again(fake, line, why):
    submit_cells(ITEMS[:1], CLUSTER)
    note(0, "stopped", 75, restarts=1)
    fake.answer("squeue", f"{line}\n")
    assert told() == [("waits", why)]
    assert list_tasks()[0].restarts == 2


def test_what_was_stopped_and_is_in_no_queue_has_to_be_submitted(fake):
    submit_cells(ITEMS[:1], CLUSTER)
    note(0, "stopped", 75)
    assert told() == [("stopped", "was not put back into the queue: submit again, it continues")]
    fake.answer("scontrol-show-job", "JobId=43 JobState=CANCELLED Reason=None\n")
    assert told() == [("stopped", "was cancelled: submit again, it continues")]


def test_what_was_cancelled_waits_for_nothing(fake):
    submit_cells(ITEMS[:1], CLUSTER)
    note(0, "cancelled", 75)
    fake.answer("squeue", "41 0 COMPLETING n1\n")
    assert told() == [("stopped", "was cancelled: submit again, it continues")]


def test_what_is_done_is_done_though_slurm_still_shows_it(fake):
    submit_cells(ITEMS[:1], CLUSTER)
    note(0, "done")
    fake.answer("squeue", "41 0 COMPLETING n1\n")
    assert told() == [("done", "")]


def test_what_has_failed_has_failed_though_slurm_still_shows_it(fake):
    submit_cells(ITEMS[:1], CLUSTER)
    note(0, "failed", 2)
    fake.answer("squeue", "41 0 COMPLETING n1\n")
    assert told() == [("failed", "exit code 2")]


def test_a_failure_is_told_by_the_line_of_its_log(fake):
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
def test_what_could_not_speak_is_spoken_for_by_slurm(fake, state, told_as):
    submit_cells(ITEMS[:1], CLUSTER)
    note(0, "running")
    fake.answer("scontrol-show-job", f"JobId=43 JobState={state} Reason=None\n")
    [(standing, why)] = told()
    assert standing == "failed"
    assert re.match(told_as, why)


def test_when_slurm_has_forgotten_a_task_its_log_speaks(fake):
    submit_cells(ITEMS[:1], CLUSTER)
    note(0, "running")
    fake.refuse("scontrol-show-job", "slurm_load_jobs error: Invalid job id specified\n")
    find_submissions()[0].log(0).write_text("slurmstepd: error: *** JOB 41 CANCELLED DUE TO TIME LIMIT ***\n")
    assert told() == [("failed", "slurmstepd: error: *** JOB 41 CANCELLED DUE TO TIME LIMIT ***")]


def test_a_failure_that_was_mended_elsewhere_is_none(fake, made):
    submit_cells(ITEMS, CLUSTER)
    for number in range(2):
        note(number, "failed", 1)
    run_data.train(made, "baselines/supervised", 1, protocol={"default": {"steps": 2}})
    STORE.parent.mkdir(exist_ok=True)
    STORE.symlink_to(made / STORE)
    assert told() == [("failed", "exit code 1"), ("done", "")]


def test_a_failure_that_was_mended_in_the_sources_and_carried_out_elsewhere_is_none(fake, made):
    submit_cells(ITEMS[1:], CLUSTER)
    note(0, "failed", 1)
    submission = find_submissions()[0]
    task = submission.task(0)
    submission.write_task(0, task.model_copy(update={"expected": task.expected | {"fingerprint": "former"}}))
    assert told() == [("failed", "exit code 1")]
    run_data.train(made, "baselines/supervised", 1, protocol={"default": {"steps": 2}})
    STORE.parent.mkdir(exist_ok=True)
    STORE.symlink_to(made / STORE)
    assert told() == [("done", "")]


def test_of_a_cell_only_the_last_submission_counts(fake):
    submit_cells(ITEMS, CLUSTER)
    note(1, "failed", 1)
    fake.answer("sbatch", "55\n")
    fake.answer("squeue", "41 0 RUNNING n1\n")
    submit_cells(ITEMS, CLUSTER)
    fake.answer("squeue", "41 0 RUNNING n1\n55 0 PENDING (Priority)\n")
    assert [(task.title, str(task.place), task.standing) for task in list_tasks()] == [
        (TITLES[0], "41_0", "runs"), (TITLES[1], "55_0", "waits"),
    ]  # fmt: skip


# Trials.


def submit_tiny_trials() -> array_jobs.Sent:
    studies = open_studies("tiny", ["baselines/supervised"], load(Params, Path("params.yaml")))
    return submit_trials("tiny", studies, CLUSTER)


def test_trials_become_one_array(fake):
    assert submit_tiny_trials() == array_jobs.Sent(jobs=(41,), tasks=2)
    titles = [find_submissions()[0].task(number).title for number in range(2)]
    assert titles == [f"tuning-tiny 1_2 baselines/supervised seed 0 trial {number}" for number in (1, 2)]
    fake.answer("squeue", "41 0 RUNNING n1\n")
    assert submit_tiny_trials() == array_jobs.Sent(jobs=(41,), tasks=1, known=1)


def test_a_trial_that_diverged_is_not_submitted_again(fake):
    submit_tiny_trials()
    task = find_submissions()[0].task(0)
    answer = {"fingerprint": task.expected["fingerprint"], "diverged": True}
    Path(task.module[1]).with_suffix(".json").write_text(json.dumps(answer))
    assert submit_tiny_trials() == array_jobs.Sent(jobs=(41,), tasks=1, stored=1)


# On a node.


@pytest.fixture
def node(fake, monkeypatch) -> FakeSlurm:
    """A task that Slurm has started."""
    submit_cells(ITEMS[:1], CLUSTER)
    variables = {"SLURM_ARRAY_JOB_ID": "41", "SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_ID": "41", "SLURMD_NODENAME": "n7",
                 "SLURM_CPUS_PER_TASK": "3"}  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return fake


def carry_out(monkeypatch, answer) -> tuple[int, TaskState | None]:
    """Exit code and last state of the task, whose program does what is said."""
    monkeypatch.setattr(assignments, "run_program", answer)
    submission = find_submissions()[0]
    with pytest.raises(SystemExit) as caught:
        array_task.main(submission.folder)
    return caught.value.code, submission.state(0)


def test_a_task_runs_the_command_of_its_cell(node, monkeypatch):
    seen = []
    code, state = carry_out(monkeypatch, lambda command: seen.extend(command) or 0)
    assert (code, state.state, state.host) == (0, "done", "n7")
    assert seen[:7] == [sys.executable, "-m", "pipelines.train", "tiny", "1_4", "baselines/supervised", "0"]


def test_a_task_that_fails_says_so(node, monkeypatch):
    code, state = carry_out(monkeypatch, lambda _: 2)
    assert (code, state.state, state.code) == (2, "failed", 2)


def test_a_training_that_was_killed_is_told_of(node, monkeypatch, capsys):
    code, state = carry_out(monkeypatch, lambda _: -9)
    assert (code, state.state) == (137, "failed")
    assert "was killed, perhaps because the memory ran out" in capsys.readouterr().err


def stopped(command: list[str]) -> int:
    raise PreemptedError("stopped")


@pytest.mark.parametrize("how", [stopped, lambda _: 75])
def test_a_task_that_was_stopped_puts_itself_back(node, monkeypatch, capsys, how):
    code, state = carry_out(monkeypatch, how)
    assert (code, state.state) == (75, "stopped")
    assert node.asked("scontrol-requeue") == ["requeue", "41_0"]
    assert "in the queue again as 41_0" in capsys.readouterr().err


def test_a_task_that_was_cancelled_stays_away(node, monkeypatch, capsys):
    node.answer("scontrol-show-job", "JobId=41 JobState=COMPLETING Reason=None Restarts=0 PreemptTime=None\n")
    code, state = carry_out(monkeypatch, stopped)
    assert (code, state.state) == (75, "cancelled")
    assert node.asked("scontrol-requeue") == []
    assert "cancelled: submit it again, and it continues" in capsys.readouterr().err


def test_a_task_that_slurm_has_put_back_itself_is_in_the_queue(node, monkeypatch, capsys):
    node.refuse("scontrol-requeue", "41_0: Job is pending execution\n")
    node.answer("scontrol-show-job", "JobId=41 JobState=PENDING\n")
    assert carry_out(monkeypatch, stopped)[0] == 75
    assert "in the queue again as 41_0" in capsys.readouterr().err


def test_a_task_that_may_not_be_put_back_says_so(node, monkeypatch, capsys):
    node.refuse("scontrol-requeue", "Access/permission denied\n")
    node.answer("scontrol-show-job", "JobId=41 JobState=RUNNING\n")
    assert carry_out(monkeypatch, stopped)[0] == 75
    assert "not in the queue again: scontrol: Access/permission denied" in capsys.readouterr().err


def test_a_node_with_other_sources_and_packages_computes_nothing(node, monkeypatch, capsys):
    submission = find_submissions()[0]
    task = submission.task(0)
    other = task.expected | {
        "fingerprint": "f",
        "source": "s",
        "versions": task.expected["versions"] | {"torch": "1.0"},
    }
    submission.write_task(0, task.model_copy(update={"expected": other}))
    code, state = carry_out(monkeypatch, lambda _: pytest.fail("it ran"))
    assert (code, state.state) == (1, "failed")
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    torch = task.expected["versions"]["torch"]
    assert f"n7: differs from where this was submitted: other source; torch {torch} instead of 1.0: a run" in line


def test_several_nodes_are_started_by_torchrun(node):
    task = find_submissions()[0].task(0).model_copy(update={"nodes": 2, "processes": 8})
    command = array_task.launch(task)
    assert command[:4] == ["srun", "--ntasks=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    assert command[4:6] == ["--cpus-per-task=3", sys.executable], "srun does not take it over"
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-backend=c10d", "--rdzv-id=41"} <= set(command)
    assert command[-len(task.module) - 1 :] == ["-m", *task.module]


# On the command line.

RUN = ("run", "--dataset", "tiny", "--split", "1_4", "--method", "supervised", "--on", "slurm")


@pytest.fixture
def known(fake, monkeypatch) -> FakeSlurm:
    monkeypatch.setattr("rc2l_bench.data.datasets.registry.names", lambda: ["tiny"])
    return fake


def test_run_says_what_it_has_submitted(known):
    code, text = call(*RUN)
    assert code == 0
    assert "1 runs submitted as 41, 0 wait or run already, 0 are finished; `rc2l-bench jobs` shows them" in text


def test_run_without_slurm_is_wrong_use(known, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sbatch: not on PATH" in refused(*RUN)


def test_run_with_another_partition_is_wrong_use_before_anything_is_made(known, monkeypatch):
    Path("cluster.yaml").unlink()
    tiny_data.write_yaml(Path("cluster.yaml"), PLAIN | {"partition": "gup"})
    monkeypatch.setattr(array_jobs, "carry_out_data", lambda _: pytest.fail("it ran"))
    assert refused(*RUN) == "error: cluster.yaml: partition: the cluster has no 'gup': did you mean 'gpu'?"


def test_trials_that_look_at_one_another_are_not_for_a_cluster(known):
    Path("params.yaml").unlink()
    params = tiny_data.params(tuning={"default": {"sampler": "tpe"}})
    tiny_data.write_yaml(Path("params.yaml"), params)
    assert "tpe draws each trial by the scores of those before: leave out --on slurm" in refused(
        "tune", "--dataset", "tiny", "--on", "slurm"
    )


def test_jobs_shows_what_is_open_and_counts_the_rest(known):
    submit_cells(ITEMS, CLUSTER)
    note(0, "done")
    note(1, "failed", 1)
    find_submissions()[0].log(1).write_text("error: [loss] is nan\n")
    code, text = call("jobs")
    assert code == 0
    assert TITLES[0] not in text
    assert f"{TITLES[1]}  failed  n1" in text
    assert "error: [loss] is nan" in text
    assert text.splitlines()[-1] == "1 done, 1 failed"
    assert TITLES[0] in call("jobs", "--all")[1]


def test_jobs_waits_and_then_tells_by_its_exit_code(known):
    submit_cells(ITEMS[:1], CLUSTER)
    note(0, "failed", 1)
    assert call("jobs", "--wait")[0] == 1
    note(0, "done")
    assert call("jobs", "--wait")[0] == 0


def test_jobs_where_nothing_was_submitted(known):
    assert call("jobs") == (0, "nothing was submitted from this checkout: rc2l-bench run --grid --on slurm does so\n")
