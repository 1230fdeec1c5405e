"""`rc2l-bench runs`: the store, and folders of evidence."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from commands_data import call, refused
from report_data import CPS

from rc2l_bench.run.store import STORE

SET = "reports/evidence/shapes"
OLD, YOUNG = "0" * 64, "1" * 64


def test_what_is_exported_is_counted_and_can_be_verified(runs_checkout):
    code, text = call("runs", "export", SET, "--method", "cps")
    assert (code, text.startswith(f"{SET}: 2 runs, 2 of them new, ")) == (0, True), text
    assert call("runs", "verify", SET) == (0, "2 finished runs: all whole\n")


def test_every_fault_is_a_line_and_the_code_says_so(runs_checkout):
    call("runs", "export", SET)
    for seed in range(2):
        (runs_checkout / SET / f"shapes/1_16/{CPS}/seed{seed}/history.csv").unlink()
    code, text = call("runs", "verify", SET)
    *lines, last = text.splitlines()
    assert code == 1
    assert lines == [f"{SET}/shapes/1_16/{CPS}/seed{seed}/history.csv: No such file or directory" for seed in range(2)]
    assert last == "4 finished runs: 2 faults"


def test_a_folder_without_runs_is_not_whole(runs_checkout):
    assert (
        refused("runs", "verify", "docs") == "error: docs: no run lies in <dataset>/<split>/<method id>/seed<k> there"
    )


def test_nothing_to_export_is_wrong_use(runs_checkout):
    assert "--method cbs: no finished run under runs has it" in refused("runs", "export", SET, "--method", "cbs")


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    """A store with an unfinished run of ten days ago, and one of today."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    for name, days in ((OLD, 10), (YOUNG, 0)):
        file = STORE / name / "step-00000002.ckpt"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * 2_000_000)
        written = time.time() - 86400 * days
        os.utime(file, (written, written))
    return STORE


def test_the_list_says_what_lies_in_the_store(store):
    code, text = call("runs", "list")
    assert code == 0
    assert sorted(line.split() for line in text.splitlines()[1:-1]) == [
        [OLD[:12], "unfinished", "2.0", "10.0"], [YOUNG[:12], "unfinished", "2.0", "0.0"],
    ]  # fmt: skip
    assert text.splitlines()[-1] == "2 runs, 4.0 MB"


def test_nothing_is_removed_before_one_says_so(store):
    assert call("runs", "prune") == (0, "1 runs, 2.0 MB: would be removed; --yes removes them\n")
    assert sorted(path.name for path in store.iterdir()) == [OLD, YOUNG]
    assert call("runs", "prune", "--yes") == (0, "1 runs, 2.0 MB: removed\n")
    assert [path.name for path in store.iterdir()] == [YOUNG]


def test_the_days_say_what_is_young(store):
    assert call("runs", "prune", "--days", "0", "--yes")[1] == "2 runs, 4.0 MB: removed\n"


@pytest.mark.parametrize("command", ["list", "verify", "prune"])
def test_where_no_store_can_be_nothing_is_said_to_be_whole(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    assert "there is no dvc.yaml here" in refused("runs", command)


def test_a_store_without_finished_runs_is_whole(store):
    assert call("runs", "verify") == (0, "0 finished runs: all whole\n")


def test_a_run_is_not_carried_over_without_a_reason(runs_checkout):
    result = f"runs/shapes/1_16/{CPS}/seed0"
    assert "error: --reason: say in a sentence why" in refused("runs", "carry", result, "--reason", " ")
