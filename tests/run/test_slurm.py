from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_data
from slurm_data import FakeSlurm, put_on_path

from rc2l_bench.cluster import ClusterConfig
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.run import slurm
from rc2l_bench.run.slurm import (
    Place,
    Queued,
    ask_end,
    check_partition,
    count_places,
    is_cancelled,
    read_queue,
    requeue,
    require_slurm,
    submit,
)
from rc2l_bench.schema import read_yaml

PLAIN = read_yaml(tiny_data.ROOT / "cluster.yaml")
SCRIPT, LOGS = Path("a b/job.sh"), Path("logs")


@pytest.fixture
def fake(tmp_path, monkeypatch) -> FakeSlurm:
    return put_on_path(tmp_path / "bin", monkeypatch)


def cluster(**changes: Any) -> ClusterConfig:
    return ClusterConfig.model_validate_json(json.dumps(PLAIN | changes))


def test_without_slurm_one_is_told_where_to_go(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"^sbatch: not on PATH: type this where jobs are submitted to Slurm"):
        require_slurm()


def test_what_a_run_gets_is_said_to_sbatch(fake):
    config = cluster(partition="gpu", account="lab", gpus=2, cpus=8, memory_gb=1.5, hours=0.25, notice_seconds=90,
                     at_once=4, options=["--constraint=a b"])  # fmt: skip
    assert submit(SCRIPT, LOGS, 7, config) == 41
    assert fake.asked("sbatch") == [
        "--parsable", "--job-name=rc2l-bench", "--array=0-6%4", "--requeue", "--open-mode=append",
        "--output=logs/%a.log",
        "--signal=B:TERM@90", "--nodes=1", "--time=15", "--mem=1500M", "--ntasks-per-node=1", "--cpus-per-task=8",
        "--partition=gpu", "--account=lab", "--gres=gpu:2", "--constraint=a b", "a b/job.sh",
    ]  # fmt: skip


def test_what_cluster_yaml_leaves_open_is_left_to_the_cluster(fake):
    submit(SCRIPT, LOGS, 1, cluster())
    assert not [word for word in fake.asked("sbatch") if word.startswith(("--partition", "--account", "--gres"))]
    assert "--array=0-0" in fake.asked("sbatch")


def test_the_name_of_a_cluster_beside_the_number_is_left_away(fake):
    fake.answer("sbatch", "please mind the gap\n42;north\n")
    assert submit(SCRIPT, LOGS, 1, cluster()) == 42


def test_an_answer_that_is_no_number_is_quoted(fake):
    fake.answer("sbatch", "maintenance\n")
    with pytest.raises(BenchError, match=r"^sbatch: expected the number of a job, got 'maintenance'"):
        submit(SCRIPT, LOGS, 1, cluster())


def test_a_refusal_is_told_in_one_line(fake):
    fake.refuse("sbatch", "sbatch: error: invalid account\nsbatch: error: Batch job submission failed: no\n")
    with pytest.raises(BenchError, match=r"^sbatch: invalid account; Batch job submission failed: no$"):
        submit(SCRIPT, LOGS, 1, cluster())


def test_a_partition_that_is_not_there_is_refused(fake):
    with pytest.raises(UsageError, match=r"^cluster.yaml: partition: the cluster has no 'gpus': did you mean 'gpu'\?"):
        check_partition(cluster(partition="cpu,gpus"))


def test_partitions_that_are_there_are_taken(fake):
    check_partition(cluster(partition="cpu,gpu"))
    check_partition(cluster(partition=""))


def test_how_many_tasks_an_array_takes(fake):
    assert count_places() == 1001
    fake.answer("scontrol-show-config", "MaxArraySize = 12\n")
    assert count_places() == 12
    fake.answer("scontrol-show-config", "x\n")
    assert count_places() == slurm.DEFAULT_ARRAY_SIZE


def test_the_queue_has_the_tasks_of_arrays(fake):
    fake.answer("squeue", "41 0 RUNNING n1\n41 1 PENDING (ReqNodeNotAvail, Unavailable:n1)\n50 N/A RUNNING n2\n")
    assert read_queue() == {
        Place(41, 0): Queued("RUNNING", "n1"), Place(41, 1): Queued("PENDING", "ReqNodeNotAvail, Unavailable:n1"),
    }  # fmt: skip


def test_a_controller_that_does_not_answer_is_an_error(fake):
    fake.refuse("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n")
    with pytest.raises(BenchError, match=r"^squeue: slurm_load_jobs error: Unable to contact slurm controller"):
        read_queue()


def test_a_controller_that_says_nothing_is_not_waited_for(fake, monkeypatch):
    (fake.folder / "squeue").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(slurm, "PATIENCE", 0.2)
    with pytest.raises(BenchError, match=r"^squeue: no answer in 0 seconds"):
        read_queue()


def test_how_a_task_ended(fake):
    fake.answer("scontrol-show-job", "JobId=43 ArrayJobId=41 JobState=TIMEOUT Reason=TimeLimit\n")
    assert ask_end(Place(41, 2)) == "TIMEOUT"
    assert fake.asked("scontrol-show-job") == ["show", "job", "--oneliner", "41_2"]


@pytest.mark.parametrize("tasks", ["4294967294", "2-5", "2,4"])
def test_a_task_that_was_cancelled_before_it_began_is_known_by_its_array(fake, tasks):
    """Slurm says of it alone that it is not found; here the first answer has no state."""
    fake.answer(
        "scontrol-show-job", f"JobId=44 ArrayTaskId=1 Name=x\nJobId=41 ArrayTaskId={tasks} JobState=CANCELLED\n"
    )
    assert slurm._ask_state("41", slurm.NEVER_BEGAN) == "CANCELLED"


def test_of_a_task_that_slurm_has_forgotten_nothing_is_known(fake):
    fake.refuse("scontrol-show-job", "slurm_load_jobs error: Invalid job id specified\n")
    assert ask_end(Place(41, 2)) == ""


@pytest.mark.parametrize(("says", "cancelled"), [
    ("JobState=COMPLETING Reason=None Restarts=1 PreemptTime=None", True),
    ("JobState=RUNNING Reason=None Restarts=1 PreemptTime=None", False),  # the notice before a time limit
    ("JobState=COMPLETING Reason=TimeLimit Restarts=1 PreemptTime=None", False),
    ("JobState=COMPLETING Reason=None Restarts=2", False),  # Slurm has put it back
    ("JobState=COMPLETING Reason=None Restarts=1 PreemptTime=2026-11-28T18:06:59", False),
])  # fmt: skip
def test_cancelling_is_told_from_preemption_and_limits(fake, says, cancelled):
    fake.answer("scontrol-show-job", f"JobId=43 ArrayJobId=41 {says} SuspendTime=None\n")
    assert is_cancelled(Place(41, 2), 1) is cancelled


def test_what_slurm_does_not_know_was_not_cancelled(fake):
    fake.refuse("scontrol-show-job", "slurm_load_jobs error: Invalid job id specified\n")
    assert not is_cancelled(Place(41, 2), 0)


def test_a_task_is_put_back_by_its_number_in_the_array(fake):
    requeue(Place(41, 2))
    assert fake.asked("scontrol-requeue") == ["requeue", "41_2"]
