"""The paper's figures beside the rows of a study."""

from __future__ import annotations

import re

import pytest
from report_data import ROOT, params, write_run

from rc2l_bench.errors import UsageError
from rc2l_bench.report import report as reports
from rc2l_bench.report.quoted_study import FILE, StudyFigure, quote, read_studies
from rc2l_bench.report.writer import compose

TEMPLATES = ROOT / "reports/templates"
KNOWN = read_studies(ROOT / "reports" / FILE)
RC2L = "rc2l_bench/methods/rc2l"
HEAD = ",".join(StudyFigure._fields)


def build(root, *variants):
    for method in (RC2L, *(f"{RC2L}@{name}" for name in variants)):
        write_run(root, method=method, panels=0)
    return reports.build(root, params(method=[RC2L], split=["1_16"], seed=[0]))


def test_every_figure_belongs_to_a_row_of_a_study():
    studies = params().ablation
    assert KNOWN
    assert [figure for figure in KNOWN if figure.method not in studies[figure.study].method] == []


def test_the_cumulative_table_is_that_of_the_paper():
    rows = [
        figure.miou for figure in KNOWN if figure.study == "cumulative" and figure.setting == "VOC Train, 732 labels"
    ]
    assert rows == ["69.37", "73.26", "76.07", "76.85", "77.06"]
    assert rows == sorted(rows)


def test_the_figures_of_the_paper_stand_beside_the_rows_with_how_they_are_known(tmp_path):
    report = build(tmp_path, "smc", "mask")
    study = next(section for section in report.sections if section.study == "cumulative")
    found = quote(study, KNOWN)
    assert found.settings == ("VOC Train, 732 labels", "VOC Aug, 1/4")
    assert found.by_method[RC2L] == ("77.06", "79.71")
    assert found.by_method[f"{RC2L}@smc"] == ("73.26 (derived)", "76.58 (derived)")
    text, page = (compose(report, kind, TEMPLATES) for kind in ("markdown", "html"))
    assert "| paper, VOC Train, 732 labels | paper, VOC Aug, 1/4 |" in text
    assert re.search(r"\| rc2l@smc \| 73\.26 \(derived\) \| 76\.58 \(derived\) \|", text)
    assert "73.26 (derived)</td>" in page
    assert "compare the order of rows, not the numbers" in text


def test_other_sections_quote_nothing(tmp_path):
    report = build(tmp_path, "rmc")
    for section in report.sections:
        assert quote(section, KNOWN).settings == ()
    assert "paper, VOC" not in compose(report, "markdown", TEMPLATES)


def test_figures_are_escaped(tmp_path):
    (tmp_path / "templates").symlink_to(TEMPLATES)
    (tmp_path / FILE).write_text(f"{HEAD}\nsingle,{RC2L},<b>|x,50.0,stated,s\n")
    report = build(tmp_path / "runs", "rmc")
    assert "&lt;b&gt;|x" in compose(report, "html", tmp_path / "templates")
    assert r"&lt;b&gt;\|x" in compose(report, "markdown", tmp_path / "templates")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("study,miou\n", "line 1: expected the columns study,method"),
        (f"{HEAD}\na,b\n", "line 2: 2 columns, expected 6"),
        (f"{HEAD}\na,b,c,nan,stated,s\n", "line 2: expected an mIoU in per cent"),
        (f"{HEAD}\na,b,c,50.0,guessed,s\n", "how it is known"),
        (f"{HEAD}\na,b,c,50.0,stated,\n", "and its source"),
    ],
)
def test_a_broken_table_is_named_with_its_line(tmp_path, content, text):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(UsageError, match=text):
        read_studies(tmp_path / FILE)


def test_no_table_means_no_figures(tmp_path):
    assert read_studies(tmp_path / FILE) == ()
