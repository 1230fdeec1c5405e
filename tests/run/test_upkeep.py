"""The store: what lies in it, what can go, and runs that are taken over to another fingerprint."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import repository_data
from running_data import note

from rc2l_bench.errors import UsageError
from rc2l_bench.report.evidence import check_folder
from rc2l_bench.report.results import find
from rc2l_bench.run.store import STORE, Run
from rc2l_bench.run.upkeep import carry_over, list_runs, prunable, prune, verify_runs

RESULT = Path("runs/blobs/1_2/baselines/supervised/seed0")
RUN = ("rc2l-bench", "run", "--dataset", "blobs", "--split", "1_2", "--method", "supervised")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A checkout with one result, and an unfinished run beside it."""
    folder = tmp_path_factory.mktemp("upkeep")
    repository_data.write_checkout(folder)
    repository_data.call(folder, *RUN)
    unfinished = folder / STORE / ("0" * 64)
    unfinished.mkdir()
    (unfinished / "step-00000002.ckpt").write_bytes(b"x" * 1000)
    return folder


@pytest.fixture
def here(root, monkeypatch) -> Path:
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(root)
    return root


def names() -> set[str]:
    return {path.name for path in STORE.iterdir()}


def test_the_list_says_what_a_run_is_and_whether_it_is_used(here):
    found = {run.finished: run for run in list_runs()}
    assert (found[True].cell, found[True].used) == ("blobs 1_2 baselines/supervised seed 0", True)
    assert (found[False].cell, found[False].used, found[False].bytes) == ("", False, 1000)


def test_a_run_that_has_begun_says_what_it_is(tmp_path):
    note(tmp_path / ("2" * 64))
    assert [run.cell for run in list_runs(tmp_path, tmp_path)] == ["tiny 1_4 baselines/cps seed 0"]


def test_a_run_that_is_used_cannot_be_pruned(here):
    assert [run.name for run in prunable(list_runs(), 0)] == ["0" * 64]


def test_a_young_run_is_kept(here):
    assert prunable(list_runs(), 1.0) == []


def test_an_old_run_goes_and_a_busy_one_stays(here):
    old = time.time() - 10 * 86400
    for number in ("1", "2"):
        folder = STORE / (number * 64)
        folder.mkdir()
        (folder / "step-00000001.ckpt").touch()
        os.utime(folder / "step-00000001.ckpt", (old, old))
    chosen = [run for run in prunable(list_runs(), 7) if run.name[0] in "12"]
    with Run(STORE, "1" * 64).lock():
        assert prune(chosen) == ["2" * 64]
    assert "1" * 64 in names()
    assert "2" * 64 not in names()


def test_a_flipped_byte_is_found(here):
    fingerprint = next(run.name for run in list_runs() if run.finished)
    assert list(verify_runs([fingerprint])) == [(fingerprint, "")]
    file = STORE / fingerprint / "result/metrics.json"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"miou", b"mioU", 1))
    [(_, fault)] = verify_runs([fingerprint])
    file.write_bytes(content)
    assert "metrics.json" in fault


def test_a_result_agrees_with_itself_as_evidence_has_to(here):
    assert check_folder(Path("runs")) == (1, [])


def test_a_run_of_now_cannot_be_carried_over(here):
    with pytest.raises(UsageError, match="has the present fingerprint already"):
        carry_over(RESULT, "because")


def test_a_reason_is_needed(here):
    with pytest.raises(UsageError, match="say in a sentence"):
        carry_over(RESULT, " ")


def test_another_protocol_cannot_be_carried_over(here):
    params = here / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("steps: 4", "steps: 5"))
    try:
        with pytest.raises(UsageError, match="differs in protocol, not only in source and versions"):
            carry_over(RESULT, "because")
    finally:
        params.write_text(text)


def test_a_refactored_method_keeps_its_result(here):
    """Code that does the same in other words: the run is taken over, handed out, and the report says so."""
    file = here / "baselines/supervised.py"
    before = json.loads((RESULT / "run.json").read_text())
    metrics = (RESULT / "metrics.json").read_bytes()
    file.write_text(f"{file.read_text()}\nNEUTRAL = 1\n")
    command = ("rc2l-bench", "runs", "carry", str(RESULT), "--reason", "A constant that nobody reads.")
    repository_data.call(here, *command)
    done = repository_data.call(here, *RUN)
    assert "step 4/4" not in done.stdout + done.stderr
    record = json.loads((RESULT / "run.json").read_text())
    assert record["fingerprint"] != before["fingerprint"]
    assert record["carried"][0]["fingerprint"] == before["fingerprint"]
    assert record["carried"][0]["source"] == before["source"]
    assert (RESULT / "metrics.json").read_bytes() == metrics
    runs, remarks = find(Path("runs"))
    assert (len(runs), remarks) == (1, [])
    assert check_folder(Path("runs")) == (1, [])
