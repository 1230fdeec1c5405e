"""Trackers hear of a training what history.csv says of it, and cannot touch it, whatever becomes of them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny_data

from rc2l_bench.run import trackers
from rc2l_bench.run.record import Record
from rc2l_bench.run.trackers import TrackerPipe, Trackers, head_of

PLACE = "tiny/1_4/baselines/supervised/seed0"
HEAD = {
    "title": "t", "fingerprint": "f" * 64, "settings": {"protocol.steps": 12}, "begin": 0,
    "cell": {"dataset": "tiny", "split": "1_4", "method": "baselines/cps@plain", "seed": 0},
}  # fmt: skip


def train(checkout: Path, launch, *names: str, method: str = "baselines/supervised", **env: str):
    """A whole training with trackers; what it left behind, and what it said."""
    tiny_data.write_yaml(checkout / "params.yaml", tiny_data.params(runtime={"trackers": list(names)}))
    arguments = ("tiny", "1_4", method, "0", "data/shards/tiny", "data/splits/tiny/1_4/seed0.json", "runs/a")
    done = launch("pipelines.train", *arguments, cwd=checkout, **env)
    assert done.returncode == 0, done.stderr
    return done


def history(checkout: Path) -> list[dict[str, float]]:
    with (checkout / "runs/a/history.csv").open() as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def miou(checkout: Path) -> float:
    return float(json.loads((checkout / "runs/a/metrics.json").read_text())["miou"])


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), purge_orphaned_data=True).Reload()
    return {name: [(point.step, point.value) for point in found.Scalars(name)] for name in found.Tags()["scalars"]}


def wanted(rows: list[dict[str, float]]) -> dict[str, list[tuple[int, float]]]:
    names = {name for row in rows for name in row} - {"step"}
    return {
        name: [(int(row["step"]), pytest.approx(row[name], rel=1e-6)) for row in rows if name in row] for name in names
    }


def test_tensorboard_shows_history(checkout, launch):
    done = train(checkout, launch, "tensorboard")
    [folder] = (checkout / ".rc2l/trackers/tensorboard" / PLACE).iterdir()
    assert curves(folder) == wanted(history(checkout))
    assert "tracker" not in done.stderr


def test_an_interrupted_session_is_shown_once(tmp_path, monkeypatch):
    """What was shown beyond the last checkpoint is trained, and shown, again."""
    monkeypatch.chdir(tmp_path)
    for begin, rows in ((0, [(5, 1.0), (10, 2.0), (15, 9.0)]), (10, [(15, 3.0), (20, 4.0)])):
        with Trackers(["tensorboard"], HEAD) as found:
            old = [{"step": begin, "loss": 0.0}] if begin else []
            found.resume(Record(history=old))
            for count in range(len(rows)):
                found.show(Record(history=old + [{"step": s, "loss": v} for s, v in rows[: count + 1]]))
    [folder] = (tmp_path / ".rc2l/trackers/tensorboard/tiny/1_4/baselines/cps+plain/seed0").iterdir()
    assert curves(folder) == {"loss": [(5, 1.0), (10, 2.0), (15, 3.0), (20, 4.0)]}


@pytest.mark.slow
def test_a_tracker_moves_no_number_and_no_fingerprint(checkout, launch):
    train(checkout, launch)
    before = {name: (checkout / "runs/a" / name).read_bytes() for name in ("history.csv", "model.safetensors")}
    folders = {path.name for path in (checkout / ".rc2l/runs").iterdir()}
    for folder in folders:
        (checkout / ".rc2l/runs" / folder / "result").rename(checkout / f"old-{folder}")
    train(checkout, launch, "tensorboard")
    assert {path.name for path in (checkout / ".rc2l/runs").iterdir()} == folders
    assert {name: (checkout / "runs/a" / name).read_bytes() for name in before} == before


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


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A tracker whose process stands still."""
    monkeypatch.chdir(tmp_path)
    pipe = TrackerPipe("tensorboard", HEAD)
    os.kill(pipe.process.pid, signal.SIGSTOP)
    return pipe


def test_a_tracker_that_stands_still_is_given_up_and_killed(stopped, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "PATIENCE", 1.0)
    stopped.send({"row": {"step": 1, "loss": 1.0}})
    stopped.close(time.monotonic() + 1.0)
    assert stopped.process.poll() == -signal.SIGKILL
    assert "was not done 1 s after the training; given up" in capsys.readouterr().err


def test_a_tracker_that_does_not_read_takes_no_more_memory(stopped, capsys):
    for step in range(40):
        stopped.send({"row": {"step": step, "loss": 1.0, "x" * 50_000: 1.0}})
    assert not stopped.alive
    assert len(stopped.waiting) < trackers.MOST_WAITING + 100_000
    assert "does not read what it is sent" in capsys.readouterr().err
    stopped.close(time.monotonic())


def test_a_killed_training_leaves_no_tracker_behind(tmp_path):
    code = (
        "import json, os, sys, time; from rc2l_bench.run.trackers import TrackerPipe\n"
        f"pipe = TrackerPipe('tensorboard', json.loads({json.dumps(json.dumps(HEAD))}))\n"
        "print(pipe.process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert psutil.wait_procs([child], timeout=60)[0] == [child]


def test_rows_of_an_earlier_session_are_not_told_again(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(trackers, "TrackerPipe", lambda _, head: sent.append(head))
    monkeypatch.setattr(Trackers, "send", lambda _, line: sent.append(line))
    rows = [{"step": 5, "loss": 1.0, "miou": None}, {"step": 10, "loss": 2.0, "miou": 0.5}]
    found = Trackers(["wandb"], HEAD)
    found.resume(Record(history=rows[:1]))
    found.show(Record(history=rows[:1]))  # a step after the checkpoint, before the next row
    found.show(Record(history=rows))
    assert sent == [HEAD | {"begin": 5}, {"row": {"step": 10, "loss": 2.0, "miou": 0.5}}]


def test_settings_are_flat(protocol):
    provenance = {
        "cell": {}, "fingerprint": "f", "protocol": protocol.model_dump(mode="json"), "runtime": {"threads": 1},
        "method_config": {"views": {"strong": 2}},
    }  # fmt: skip
    settings = head_of(provenance, "t")["settings"]
    assert settings["protocol.optimiser.lr"] == 0.003
    assert settings["method_config.views.strong"] == 2
    assert settings["protocol.crop"] == "[32, 32]"
    assert settings["runtime.threads"] == 1


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
