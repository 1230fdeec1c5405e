"""`rc2l-bench report`."""

from __future__ import annotations

import json
import subprocess
import sys

import typer
from commands_data import call, refused
from report_data import CPS, ROOT, reseal, write_run
from typer.testing import CliRunner

from rc2l_bench.cli.report import report as command


def test_a_report_of_evidence_is_that_of_the_runs(runs_checkout):
    call("runs", "export", "a", "--seed", "0")
    call("runs", "export", "b", "--seed", "1")
    markdown = ("--format", "markdown")
    assert call("report", "--runs", "a", "--runs", "b", *markdown) == call("report", *markdown)


def test_two_results_of_one_fingerprint_end_a_report_with_both_names(runs_checkout):
    call("runs", "export", "a")
    file = runs_checkout / f"a/shapes/1_16/{CPS}/seed1/metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"miou": 0.9}))
    reseal(file.parent)
    code, text = call("report", "--runs", "runs", "--runs", "a")
    assert code == 1
    assert f"a/shapes/1_16/{CPS}/seed1: has the fingerprint of runs/shapes/1_16/{CPS}/seed1 and other numbers" in text
    assert text.count("\n") == 1


def invoke(*arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_prints_one_format(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    write_run(tmp_path / "runs")
    done = invoke("--runs", tmp_path / "runs", "--format", "latex", "--reference", "supervised")
    assert done.exit_code == 0
    assert done.stdout.startswith(r"% Needs \usepackage{booktabs,siunitx}")
    done = invoke("--runs", tmp_path / "runs", "--format", "csv", "--out", tmp_path / "deep" / "table.csv")
    assert done.exit_code == 0
    assert (tmp_path / "deep" / "table.csv").read_text().startswith("dataset,split,method,seed,status")


def test_the_command_refuses_an_unknown_reference_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    done = invoke("--runs", tmp_path, "--reference", "baselines/supervized")
    assert done.exit_code == 2
    assert "did you mean 'baselines/supervised'?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_imports_nothing_slow():
    code = "import sys, rc2l_bench.cli.report; sys.exit(bool({'torch', 'pandas', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_runs_that_are_not_there_are_wrong_use(runs_checkout):
    assert "--runs nosuch: no such folder" in refused("report", "--runs", "nosuch")
    assert not (runs_checkout / "reports/index.html").exists()
