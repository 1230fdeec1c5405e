"""Reports of several folders of runs."""

from __future__ import annotations

import json
import shutil

import pytest
from report_data import ROOT, declared_protocol, params, reseal, write_grid, write_run

from rc2l_bench.errors import BenchError
from rc2l_bench.report import report as reports
from rc2l_bench.report.comparison import Key
from rc2l_bench.report.evidence_export import Choice, export_runs
from rc2l_bench.report.formatting import measured_on
from rc2l_bench.report.writer import compose, frame

SUPERVISED, CPS, RC2L = "baselines/supervised", "baselines/cps", "rc2l_bench/methods/rc2l"
GRID = params(method=[SUPERVISED, CPS], split=["1_16"], seed=[0, 1, 2])
TEMPLATES = ROOT / "reports/templates"


def build(root, *more, grid=GRID):
    return reports.build(root, grid, more=more)


def said(report):
    return "\n".join(f"{remark.where}: {remark.text}" for remark in report.remarks)


@pytest.fixture
def parts(tmp_path):
    """One grid, and the same runs as evidence of two machines that have one run in common."""
    write_grid(tmp_path / "runs", GRID.grid)
    for name, seeds in (("a", [0, 1]), ("b", [1, 2])):
        list(export_runs(tmp_path / "runs", tmp_path / name, Choice(seed=seeds), 10**6))
    return tmp_path


@pytest.mark.parametrize("kind", ["html", "markdown", "latex", "csv"])
def test_a_report_of_several_folders_is_that_of_one(parts, kind):
    one, several = build(parts / "runs"), build(parts / "a", parts / "b")
    assert compose(several, kind, TEMPLATES) == compose(one, kind, TEMPLATES)
    assert len(several.runs) == 6


def test_a_report_of_evidence_without_pictures_has_none_and_no_complaint(parts):
    list(export_runs(parts / "runs", parts / "bare", Choice(), 0))
    text = compose(build(parts / "bare"), "html", TEMPLATES)
    assert "Pictures at" not in text
    assert "no pictures" not in text


def test_equal_fingerprints_with_different_numbers_are_an_error_that_names_both(parts):
    folder = parts / "b/shapes/1_16/baselines/cps/seed1"
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"pixel_accuracy": 0.5}))
    reseal(folder)
    text = (
        r"b/shapes/\S+/cps/seed1: has the fingerprint of \S+/a/shapes/\S+/cps/seed1 and other numbers \(pixel_accuracy"
    )
    with pytest.raises(BenchError, match=text):
        build(parts / "a", parts / "b")


def test_of_two_runs_of_a_cell_the_first_is_shown_and_the_other_told(parts):
    folder = parts / "b/shapes/1_16/baselines/cps/seed2"
    shutil.rmtree(folder)
    write_run(parts / "b", method=CPS, seed=2)
    write_run(parts / "a", method=CPS, seed=2, quality=0.9, record={"versions": {"torch": "3.0"}})
    report = build(parts / "a", parts / "b")
    assert report.sections[0].groups[Key(CPS, "1_16")].runs[2].folder == parts / "a/shapes/1_16/baselines/cps/seed2"
    assert f"cps/seed2: not shown: {folder} differs from {parts}/a" in said(report)
    assert "versions.torch is 2.14.1 instead of 3.0" in said(report)


def test_of_two_runs_of_a_cell_the_one_that_is_comparable_is_shown(parts):
    old = declared_protocol(GRID, "shapes") | {"steps": 77}
    write_run(parts / "c", method=CPS, seed=0, protocol=old)
    report = build(parts / "c", parts / "a", parts / "b")
    assert len(report.compared) == 6
    assert report.missing == 0


def test_remarks_name_the_folder_where_there_are_several(parts):
    (parts / "b/shapes/1_16/baselines/cps/seed2/metrics.json").unlink()
    assert f"{parts}/b: shapes/1_16/baselines/cps/seed2: left out: metrics.json: No such file" in said(
        build(parts / "a", parts / "b")
    )


def test_memory_and_time_are_compared_within_one_kind_of_hardware(tmp_path):
    gpu = {"hardware": {"gpu": "A GPU", "cpu": "a processor", "cores": 2}}
    for seed in range(2):
        write_run(tmp_path, seed=seed)
        write_run(tmp_path, method=RC2L, seed=seed, record=gpu)
    write_run(tmp_path, method=CPS, seed=0)
    write_run(tmp_path, method=CPS, seed=1, record=gpu)
    report = build(tmp_path, grid=params(method=[SUPERVISED, CPS, RC2L], split=["1_16"], seed=[0, 1]))
    (section,) = report.sections
    costs = section.costs
    # cps has runs on both; those on the reference's hardware count.
    assert (costs[CPS].machine, costs[CPS].time_ratio) == (costs[SUPERVISED].machine, pytest.approx(1.6 * 58 / 58.05))
    assert costs[RC2L].machine == "A GPU"
    assert costs[RC2L].step_ms > 0
    assert costs[RC2L].time_ratio != costs[RC2L].time_ratio
    assert "runs come from 2 kinds of hardware" in said(report)
    assert measured_on(section) == (
        "Memory and time were measured on a processor, 2 cores, 2 threads (supervised, cps) and A GPU (rc2l); "
        "multiples are of the same hardware only."
    )
    assert {"A GPU", costs[CPS].machine} == set(frame(report)["hardware"])


def test_one_kind_of_hardware_is_named_once(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path, method=CPS)
    text = compose(build(tmp_path), "markdown", TEMPLATES)
    assert text.count("a processor, 2 cores, 2 threads") == 1
