"""Commands on evidence: export, verify, report of several folders, quotes of documents."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_data
from commands_data import call, refused
from report_data import params, reseal, write_grid

SUPERVISED, CPS = "baselines/supervised", "baselines/cps"
SET = "reports/evidence/shapes"
MARKED = "There are <!-- evidence shapes runs -->?<!-- /evidence --> runs.\n"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A checkout with four finished runs and two documents."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(tiny_data.ROOT / name, tmp_path)
    shutil.copytree(tiny_data.ROOT / "reports/templates", tmp_path / "reports/templates")
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("No marker.\n")
    (tmp_path / "docs/A.md").write_text("None here.\n")
    write_grid(tmp_path / "runs", params(method=[SUPERVISED, CPS], split=["1_16"], seed=[0, 1]).grid, panels=0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_exported_is_counted_and_can_be_verified(here):
    code, text = call("runs", "export", SET, "--method", "cps")
    assert (code, text.startswith(f"{SET}: 2 runs, 2 of them new, ")) == (0, True), text
    assert call("runs", "verify", SET) == (0, "2 finished runs: all whole\n")


def test_every_fault_is_a_line_and_the_code_says_so(here):
    call("runs", "export", SET)
    for seed in range(2):
        (here / SET / f"shapes/1_16/{CPS}/seed{seed}/history.csv").unlink()
    code, text = call("runs", "verify", SET)
    *lines, last = text.splitlines()
    assert code == 1
    assert lines == [f"{SET}/shapes/1_16/{CPS}/seed{seed}/history.csv: No such file or directory" for seed in range(2)]
    assert last == "4 finished runs: 2 faults"


def test_a_folder_without_runs_is_not_whole(here):
    assert (
        refused("runs", "verify", "docs") == "error: docs: no run lies in <dataset>/<split>/<method id>/seed<k> there"
    )


def test_nothing_to_export_is_wrong_use(here):
    assert "--method cbs: no finished run under runs has it" in refused("runs", "export", SET, "--method", "cbs")


def test_a_report_of_evidence_is_that_of_the_runs(here):
    call("runs", "export", "a", "--seed", "0")
    call("runs", "export", "b", "--seed", "1")
    markdown = ("--format", "markdown")
    assert call("report", "--runs", "a", "--runs", "b", *markdown) == call("report", *markdown)


def test_two_results_of_one_fingerprint_end_a_report_with_both_names(here):
    call("runs", "export", "a")
    file = here / f"a/shapes/1_16/{CPS}/seed1/metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"miou": 0.9}))
    reseal(file.parent)
    code, text = call("report", "--runs", "runs", "--runs", "a")
    assert code == 1
    assert f"a/shapes/1_16/{CPS}/seed1: has the fingerprint of runs/shapes/1_16/{CPS}/seed1 and other numbers" in text
    assert text.count("\n") == 1


def test_without_evidence_one_line_says_so(here):
    line = "reports/evidence: no evidence yet; `rc2l-bench runs export reports/evidence/NAME` puts finished runs there"
    assert call("evidence") == (0, f"{line}\n")


def test_documents_get_what_they_quote(here):
    call("runs", "export", SET)
    (here / "docs/A.md").write_text(MARKED)
    assert call("evidence") == (0, f"{SET}: 4 runs, whole\ndocs/A.md: 1 quotes brought up to date\n")
    assert (here / "docs/A.md").read_text() == MARKED.replace("?", "4")
    assert call("evidence") == (0, f"{SET}: 4 runs, whole\n")


def test_a_marker_that_asks_for_what_there_is_not_leaves_all_documents_alone(here):
    call("runs", "export", SET)
    (here / "README.md").write_text(MARKED)
    (here / "docs/A.md").write_text("\n<!-- evidence shape runs -->?<!-- /evidence -->")
    assert "error: docs/A.md:2: no evidence 'shape' under reports/evidence" in refused_after_listing("evidence")
    assert (here / "README.md").read_text() == MARKED


def refused_after_listing(*arguments: str) -> str:
    code, text = call(*arguments)
    assert code == 2
    return text.splitlines()[-1]


def test_evidence_that_is_not_whole_is_not_quoted(here):
    call("runs", "export", SET)
    (here / "README.md").write_text(MARKED)
    (here / SET / f"shapes/1_16/{CPS}/seed0/cost.json").write_text("{}")
    code, text = call("evidence")
    assert code == 1
    assert (
        f"cost.json: has changed since it was written: `rc2l-bench runs verify {SET}` lists all that is wrong" in text
    )
    assert (here / "README.md").read_text() == MARKED
