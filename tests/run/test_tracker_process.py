"""Processes of trackers: what each writes of a training, and one line where it cannot."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from typing import Any, ClassVar

import pytest
import tiny_data
from trackers_data import HEAD, PLACE, curves, history, miou, train, wanted

from rc2l_bench.run import tracker_process
from rc2l_bench.run.tracker_process import FOLDER, Head, Listener, Values, folder_of, main


class Ledger(Listener):
    """Keeps what it is told."""

    told: ClassVar[list[Any]] = []

    def __init__(self, head: Head) -> None:
        if head["title"] == "none":
            raise OSError(28, "No space left\non device")
        self.told[:] = [head["title"]]

    def write(self, values: Values, step: int) -> None:
        self.told.append((step, values))

    def close(self, result: Values) -> None:
        self.told.append(result)


def hear(monkeypatch, *lines: dict[str, Any]) -> int:
    """Exit code of a process that is sent some lines."""
    monkeypatch.setitem(tracker_process.LISTENERS, "ledger", Ledger)
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{json.dumps(line)}\n" for line in lines)))
    return main("ledger")


def test_rows_are_written_in_their_order_and_the_result_at_the_end(monkeypatch):
    rows = [{"row": {"step": step, "loss": 1 / step}} for step in (5, 10)]
    assert hear(monkeypatch, HEAD, *rows, {"result": {"miou": 0.5}}) == 0
    assert Ledger.told == ["t", (5, {"loss": 0.2}), (10, {"loss": 0.1}), {"miou": 0.5}]


def test_a_training_that_was_cut_off_has_no_result(monkeypatch):
    assert hear(monkeypatch, HEAD, {"row": {"step": 5, "loss": 0.2}}) == 0
    assert Ledger.told[-1] == {}


def test_what_goes_wrong_is_one_line_and_stops_no_training(monkeypatch, capsys):
    assert hear(monkeypatch, HEAD | {"title": "none"}) == 1
    said = capsys.readouterr().err
    assert said.startswith("tracker ledger: ")
    assert said.endswith("; the training goes on without it\n")
    assert said.count("\n") == 1


def test_every_cell_and_fingerprint_has_a_folder():
    assert folder_of("x", HEAD) == FOLDER / "x/tiny/1_4/baselines/cps+plain/seed0" / ("f" * 12)


def test_tensorboard_shows_history(checkout, launch):
    done = train(checkout, launch, "tensorboard")
    [folder] = (checkout / ".rc2l/trackers/tensorboard" / PLACE).iterdir()
    assert curves(folder) == wanted(history(checkout))
    assert "tracker" not in done.stderr


@pytest.mark.parametrize("name", ["dvclive", "mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_one_line(tmp_path, name):
    """Hidden by a module of that name that cannot be imported, should it be installed."""
    (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name={name!r})")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', tiny_data.ROOT)}"
    done = subprocess.run(
        [sys.executable, "-m", "rc2l_bench.run.tracker_process", name], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path}, input=json.dumps(HEAD), capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        f"tracker {name}: {name} is not installed: pip install 'rc2l-bench[{name}]'; the training goes on\n"
    )


@pytest.mark.slow
def test_a_tracker_that_cannot_write_is_one_line(checkout, launch):
    (checkout / ".rc2l/trackers").mkdir(parents=True)
    (checkout / ".rc2l/trackers/tensorboard").write_text("in the way")
    done = train(checkout, launch, "tensorboard")
    [said] = [line for line in done.stderr.splitlines() if "tracker" in line]
    assert said.startswith("tracker tensorboard: ")
    assert said.endswith("the training goes on without it")
    assert len(history(checkout)) == 5


@pytest.mark.slow
def test_dvclive_writes_history(checkout, launch):
    pytest.importorskip("dvclive")
    train(checkout, launch, "dvclive")
    [folder] = (checkout / ".rc2l/trackers/dvclive" / PLACE).iterdir()
    for name, points in wanted(history(checkout)).items():
        with (folder / f"plots/metrics/{name}.tsv").open() as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        assert [(int(row["step"]), float(row[name])) for row in rows] == points
    assert json.loads((folder / "metrics.json").read_text())["miou"] == pytest.approx(miou(checkout))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow's own
def test_mlflow_writes_history(checkout, launch):
    pytest.importorskip("mlflow")
    train(checkout, launch, "mlflow", MLFLOW_DISABLE_TELEMETRY="true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{checkout / '.rc2l/trackers/mlflow.db'}")
    [experiment] = [found for found in client.search_experiments() if found.name == "rc2l-bench"]
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["protocol.steps"] == "12"
    for name, points in wanted(history(checkout)).items():
        found = client.get_metric_history(run.info.run_id, name)
        assert sorted((point.step, point.value) for point in found) == points
    assert run.data.metrics["final.miou"] == pytest.approx(miou(checkout))


@pytest.mark.slow
def test_wandb_writes_a_run_offline(checkout, launch):
    pytest.importorskip("wandb")
    done = train(checkout, launch, "wandb", WANDB_MODE="offline")
    [run] = (checkout / ".rc2l/trackers/wandb/wandb").glob("offline-run-*/run-*.wandb")
    assert run.stat().st_size > 0
    assert "tracker" not in done.stderr
