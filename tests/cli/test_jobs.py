"""`--on slurm` and `rc2l-bench jobs`. Slurm's commands are not the real ones here."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_data
from commands_data import call, refused
from slurm_data import CLUSTER, ITEMS, PLAIN, TITLES, note

from rc2l_bench.run import array_jobs
from rc2l_bench.run.array_jobs import submit_cells
from rc2l_bench.run.submissions import find_submissions

RUN = ("run", "--dataset", "tiny", "--split", "1_4", "--method", "supervised", "--on", "slurm")


def test_run_says_what_it_has_submitted(slurm):
    code, text = call(*RUN)
    assert code == 0
    assert "1 runs submitted as 41, 0 wait or run already, 0 are finished; `rc2l-bench jobs` shows them" in text


def test_run_without_slurm_is_wrong_use(slurm, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sbatch: not on PATH" in refused(*RUN)


def test_run_with_another_partition_is_wrong_use_before_anything_is_made(slurm, monkeypatch):
    Path("cluster.yaml").unlink()
    tiny_data.write_yaml(Path("cluster.yaml"), PLAIN | {"partition": "gup"})
    monkeypatch.setattr(array_jobs, "carry_out_data", lambda _: pytest.fail("it ran"))
    assert refused(*RUN) == "error: cluster.yaml: partition: the cluster has no 'gup': did you mean 'gpu'?"


def test_jobs_shows_what_is_open_and_counts_the_rest(slurm):
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


def test_jobs_waits_and_then_tells_by_its_exit_code(slurm):
    submit_cells(ITEMS[:1], CLUSTER)
    note(0, "failed", 1)
    assert call("jobs", "--wait")[0] == 1
    note(0, "done")
    assert call("jobs", "--wait")[0] == 0


def test_jobs_where_nothing_was_submitted(slurm):
    assert call("jobs") == (0, "nothing was submitted from this checkout: rc2l-bench run --grid --on slurm does so\n")


def test_jobs_outside_of_a_checkout_is_wrong_use(slurm, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "there is no dvc.yaml here" in refused("jobs")
