"""`rc2l-bench evidence`: what documents quote of folders of evidence."""

from __future__ import annotations

from commands_data import call
from report_data import CPS

SET = "reports/evidence/shapes"
MARKED = "There are <!-- evidence shapes runs -->?<!-- /evidence --> runs.\n"


def test_without_evidence_one_line_says_so(runs_checkout):
    line = "reports/evidence: no evidence yet; `rc2l-bench runs export reports/evidence/NAME` puts finished runs there"
    assert call("evidence") == (0, f"{line}\n")


def test_documents_get_what_they_quote(runs_checkout):
    call("runs", "export", SET)
    (runs_checkout / "docs/A.md").write_text(MARKED)
    assert call("evidence") == (0, f"{SET}: 4 runs, whole\ndocs/A.md: 1 quotes brought up to date\n")
    assert (runs_checkout / "docs/A.md").read_text() == MARKED.replace("?", "4")
    assert call("evidence") == (0, f"{SET}: 4 runs, whole\n")


def test_a_marker_that_asks_for_what_there_is_not_leaves_all_documents_alone(runs_checkout):
    call("runs", "export", SET)
    (runs_checkout / "README.md").write_text(MARKED)
    (runs_checkout / "docs/A.md").write_text("\n<!-- evidence shape runs -->?<!-- /evidence -->")
    assert "error: docs/A.md:2: no evidence 'shape' under reports/evidence" in refused_after_listing("evidence")
    assert (runs_checkout / "README.md").read_text() == MARKED


def refused_after_listing(*arguments: str) -> str:
    code, text = call(*arguments)
    assert code == 2
    return text.splitlines()[-1]


def test_evidence_that_is_not_whole_is_not_quoted(runs_checkout):
    call("runs", "export", SET)
    (runs_checkout / "README.md").write_text(MARKED)
    (runs_checkout / SET / f"shapes/1_16/{CPS}/seed0/cost.json").write_text("{}")
    code, text = call("evidence")
    assert code == 1
    assert (
        f"cost.json: has changed since it was written: `rc2l-bench runs verify {SET}` lists all that is wrong" in text
    )
    assert (runs_checkout / "README.md").read_text() == MARKED
