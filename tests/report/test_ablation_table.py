from __future__ import annotations

import pytest
from report_data import RC2L as BASE
from report_data import RC2L_NONE as NONE
from report_data import RC2L_RMC as RMC
from report_data import ROOT, WEIGHTS, params, write_family, write_run

from rc2l_bench.report import report as reports
from rc2l_bench.report.ablation_table import settings
from rc2l_bench.report.comparison import Key
from rc2l_bench.report.formatting import title
from rc2l_bench.report.writer import write

GRID = params(method=["baselines/supervised", BASE], split=["1_16", "1_4"], seed=[0, 1, 2])


def build(root, **more):
    return reports.build(root, GRID, **more)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    write_family(root)
    write_run(root, split="1_4", method=BASE, method_config={"weights": WEIGHTS[BASE]})
    return build(root)


@pytest.fixture(scope="module")
def family(report):
    return report.sections[-1]


def test_variants_of_a_study_have_a_section_of_their_own(report):
    assert [(section.family, section.study) for section in report.sections] == [("", ""), (BASE, "single")]
    assert title(report.sections[-1]) == "shapes, study of rc2l: single"


def test_variants_of_no_study_have_a_section_too(tmp_path):
    write_family(tmp_path, methods=(BASE, NONE))
    for seed in (0, 1):
        write_run(tmp_path, method=f"{BASE}@mine", seed=seed, method_config={"threshold": 0.1})
    _, study, family = build(tmp_path).sections
    assert (study.study, study.methods) == ("single", (NONE, BASE))
    assert (family.study, family.methods) == ("", (BASE, f"{BASE}@mine"))
    assert title(family) == "shapes, variants of rc2l"


def test_a_row_may_stand_in_several_studies(tmp_path):
    write_family(tmp_path, methods=(BASE,))
    for name in ("smc", "mask"):
        write_run(tmp_path, method=f"{BASE}@{name}", method_config={"weights": {"smc": 20.0}})
    studies = {section.study: section.methods for section in build(tmp_path).sections}
    assert studies["cumulative"] == (f"{BASE}@mask", f"{BASE}@smc", BASE)
    assert studies["single"] == (f"{BASE}@smc", BASE)


def test_a_study_shows_what_it_varies_of_the_protocol(tmp_path):
    write_run(tmp_path, method=BASE)
    for queries in (20, 100):
        changes = {"net": {"region": {"queries": queries}}}
        write_run(tmp_path, method=f"{BASE}@queries_{queries}", record={"protocol_changes": changes})
    report = build(tmp_path)
    study = report.sections[-1]
    assert study.study == "queries"
    assert settings(study).names == ("protocol.net.region.queries",)
    assert settings(study).by_method[BASE] == ("16",)
    assert settings(study).by_method[f"{BASE}@queries_100"] == ("100",)
    assert not [remark for remark in report.remarks if "not comparable" in remark.text]


def test_the_method_stands_among_its_variants_and_in_its_own_section_too(report):
    declared, family = report.sections
    assert family.methods == (NONE, RMC, BASE)
    assert len(declared.groups[Key(BASE, "1_16")].runs) == 3
    assert not any("@" in method for method in declared.methods)


def test_only_splits_with_variants_are_shown(family):
    assert [column.split for column in family.columns] == ["1_16"]


def test_variants_are_compared_with_their_method(family):
    gap = family.groups[Key(NONE, "1_16")].gap
    assert family.reference == BASE
    assert gap.n == 3
    assert gap.mean < 0


def test_a_variant_can_be_the_reference(tmp_path):
    write_family(tmp_path)
    declared, family = build(tmp_path, reference="rc2l@none").sections
    assert (declared.reference, family.reference) == (BASE, NONE)
    assert family.groups[Key(BASE, "1_16")].gap.mean > 0


def test_the_settings_are_those_that_differ(family):
    found = settings(family)
    assert found.names == ("weights.rmc", "weights.rfc")
    assert found.by_method == {NONE: ("0", "0"), RMC: ("0.5", "0"), BASE: ("0.5", "0.1")}


def test_a_section_of_methods_has_no_settings(report):
    found = settings(report.sections[0])
    assert found.names == ()
    assert set(found.by_method.values()) == {()}


def test_variants_without_their_method_are_shown(tmp_path):
    write_family(tmp_path, methods=(NONE, RMC))
    family = build(tmp_path).sections[-1]
    assert family.methods == (NONE, RMC)
    assert not family.compares


def test_families_of_several_datasets_stay_apart(tmp_path):
    write_family(tmp_path)
    write_family(tmp_path, dataset="camvid")
    assert {(s.dataset, s.family) for s in build(tmp_path).sections} >= {("camvid", BASE), ("shapes", BASE)}


def test_the_files_show_what_every_variant_is_set_to(report, tmp_path):
    write(report, tmp_path, ROOT / "reports/templates")
    markdown = (tmp_path / "report.md").read_text()
    row = next(line for line in markdown.splitlines() if line.startswith("| rc2l@rmc | 0.5 | 0 |"))
    assert "n = 3" in row
    assert "rc2l@rmc & 0.5 & 0" in (tmp_path / "table.tex").read_text().replace("{}", "")
    assert "shapes, study of rc2l: single" in (tmp_path / "index.html").read_text()
    assert (tmp_path / "figures/shapes-rc2l_bench_methods_rc2l-single-variants.svg").is_file()
