"""A task of an array job on its node. Slurm's commands are not the real ones here."""

from __future__ import annotations

import sys

import pytest
from slurm_data import CLUSTER, ITEMS, FakeSlurm

from rc2l_bench.errors import PreemptedError
from rc2l_bench.run import array_task, assignments
from rc2l_bench.run.array_jobs import submit_cells
from rc2l_bench.run.submissions import TaskState, find_submissions


@pytest.fixture
def node(slurm, monkeypatch) -> FakeSlurm:
    """A task that Slurm has started."""
    submit_cells(ITEMS[:1], CLUSTER)
    variables = {"SLURM_ARRAY_JOB_ID": "41", "SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_ID": "41", "SLURMD_NODENAME": "n7",
                 "SLURM_CPUS_PER_TASK": "3"}  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return slurm


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
