"""Numbers for DVC's own commands."""

from __future__ import annotations

import json

import pandas as pd
from report_data import write_run

from rc2l_bench.report import dvc_export
from rc2l_bench.report.results import find


def write_all(tmp_path):
    for method in ("baselines/supervised", "baselines/cps"):
        write_run(tmp_path / "runs", method=method)
    runs, _ = find(tmp_path / "runs")
    dvc_export.write(runs, tmp_path)
    return runs


def test_every_run_has_a_file_of_its_few_numbers(tmp_path):
    runs = write_all(tmp_path)
    assert len(runs) == 2
    for run in runs:
        text = (tmp_path / "metrics/shapes/1_16" / run.cell.method / "seed0.json").read_text()
        assert json.loads(text)["miou"] == run.miou
        assert "allocated_mb" not in json.loads(text)  # this run did not measure it


def test_the_curves_of_a_split_are_in_one_table(tmp_path):
    write_all(tmp_path)
    table = pd.read_csv(tmp_path / "curves/shapes-1_16.csv")
    assert list(table) == dvc_export.CURVES
    assert table.groupby("run")["step"].agg(list).to_dict() == {
        "cps 0": [250, 500, 750, 1000],
        "supervised 0": [250, 500, 750, 1000],
    }


def test_runs_that_are_gone_leave_no_numbers(tmp_path):
    write_all(tmp_path)
    dvc_export.write([], tmp_path)
    assert not list((tmp_path / "metrics").rglob("*.json")) + list((tmp_path / "curves").iterdir())


def test_a_run_without_history_has_metrics_and_no_curve(tmp_path):
    write_run(tmp_path / "runs")
    next((tmp_path / "runs").rglob("history.csv")).unlink()
    dvc_export.write(find(tmp_path / "runs")[0], tmp_path)
    assert list((tmp_path / "metrics").rglob("*.json"))
    assert not list((tmp_path / "curves").iterdir())
