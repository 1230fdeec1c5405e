"""`rc2l-bench tune`: points that all methods share, trials that survive a kill, and the validation part unopened."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import optuna
import pytest
import repository_data
import tiny_data

from rc2l_bench.run.tuning import MethodStudy, draw_points, numbers_of, point_to_numbers
from rc2l_bench.tuning import Range, TuningConfig

FETCH = ("rc2l-bench", "data", "fetch", "blobs")
SPACE = {
    "lr": Range(low=1e-4, high=1e-2, log=True), "weight": Range(low=0.0, high=2.0, log=False),
}  # fmt: skip


def settings(**changes) -> TuningConfig:
    return TuningConfig.model_validate_json(json.dumps(tiny_data.TUNING | changes))


@pytest.mark.parametrize(("share", "lr", "weight"), [(0.0, 1e-4, 0.0), (0.5, 1e-3, 1.0), (1.0, 1e-2, 2.0)])
def test_a_point_becomes_numbers_on_their_scales(share, lr, weight):
    assert point_to_numbers([share] * 4, SPACE) == {"lr": lr, "weight": weight}


def test_numbers_have_three_digits():
    assert point_to_numbers([1 / 3, 1 / 3], SPACE) == {"lr": 0.000464, "weight": 0.667}


def test_a_rounded_number_stays_in_its_range():
    where = {"x": Range(low=0.00012345, high=0.99999, log=False)}
    assert [point_to_numbers([share], where)["x"] for share in (0.0, 1.0)] == [0.00012345, 0.99999]


def test_more_trials_begin_with_the_same_points():
    few, many = draw_points(settings(trials=5)), draw_points(settings(trials=16))
    assert many[:5] == few


def test_quasi_random_points_fill_every_sixteenth_of_a_number():
    points = np.array(draw_points(settings(trials=16)))
    assert points.shape == (16, 4)
    for column in points.T:
        assert sorted((column * 16).astype(int)) == list(range(16))


def test_another_seed_gives_other_points():
    assert draw_points(settings(seed=1)) != draw_points(settings())


def test_random_points_are_drawn_from_the_seed():
    assert draw_points(settings(sampler="random")) == draw_points(settings(sampler="random"))
    assert draw_points(settings(sampler="random")) != draw_points(settings())


@pytest.mark.parametrize("sampler", ["quasi_random", "tpe"])
def test_a_kill_while_trials_are_drawn_leaves_whole_ones_or_none(sampler, monkeypatch):
    study = optuna.create_study(direction="maximize")
    space = {"lr": SPACE["lr"], "weight": SPACE["weight"]}
    mine = MethodStudy(method="m", space=space, config=settings(sampler=sampler, trials=4), inputs="i", study=study)
    create, calls = study._storage.create_new_trial, []

    def kill(*arguments, **more):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return create(*arguments, **more)

    monkeypatch.setattr(study._storage, "create_new_trial", kill)
    with contextlib.suppress(KeyboardInterrupt):
        mine.plan()
        mine.tell(0, {"miou": 0.5})
        mine.plan()
    assert len(study.trials) == 1
    while len(study.trials) < 4:
        mine.plan()
        for trial in mine.unfinished():
            mine.tell(trial.number, {"miou": 0.1 * trial.number})
    assert all(set(trial.params) == set(space) for trial in study.trials)
    if sampler == "quasi_random":
        points = draw_points(settings(trials=4))
        assert [numbers_of(trial) for trial in study.trials] == [point_to_numbers(point, space) for point in points]


def tune(root: Path, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = ("rc2l-bench", "tune", "--dataset", "blobs", "--method", "supervised", "--method", "fixmatch", *more)
    return repository_data.call(root, *command, check=check)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Path:
    """A checkout whose own data were tuned."""
    root = tmp_path_factory.mktemp("tuned")
    repository_data.write_checkout(root)
    tune(root, "--jobs", "2")
    return root


def trials(root: Path) -> list[list[str]]:
    """Rows without the seconds."""
    rows = [line.rsplit(",", 2) for line in (root / "tuned/blobs.csv").read_text().splitlines()]
    return [[row[0], row[2]] for row in rows]


@pytest.mark.slow
def test_every_method_gets_its_trials_and_the_same_learning_rates(tuned):
    text = (tuned / "tuned/blobs.csv").read_text()
    rates = {m: [json.loads(line.split('"', 1)[1].rsplit('"', 1)[0].replace('""', '"'))["lr"]
                 for line in text.splitlines() if line.startswith(m)]
             for m in ("baselines/supervised", "baselines/fixmatch")}  # fmt: skip
    assert len(rates["baselines/supervised"]) == tiny_data.TUNING["trials"]
    assert rates["baselines/supervised"] == rates["baselines/fixmatch"]


@pytest.mark.slow
def test_a_run_uses_what_was_chosen(tuned):
    root = tuned
    repository_data.call(root, *["rc2l-bench", "run", "--dataset", "blobs", "--split", "1_2", "--method", "fixmatch"])
    repository_data.call(
        root, *["rc2l-bench", "run", "--dataset", "blobs", "--split", "1_2", "--method", "fixmatch@untuned"]
    )
    records = {name: json.loads((root / f"runs/blobs/1_2/baselines/{name}/seed0/run.json").read_text())
               for name in ("fixmatch", "fixmatch+untuned")}  # fmt: skip
    assert [record["tuning"]["status"] for record in records.values()] == ["tuned", "untuned"]
    chosen = records["fixmatch"]["tuning"]["numbers"]
    assert records["fixmatch"]["method_config"]["weight"] == chosen["weight"]
    assert records["fixmatch"]["fingerprint"] != records["fixmatch+untuned"]["fingerprint"]
    history = (root / "runs/blobs/1_2/baselines/fixmatch/seed0/history.csv").read_text().splitlines()
    column = history[0].split(",").index("lr")
    assert float(history[1].split(",")[column]) <= chosen["lr"]
    assert float(history[1].split(",")[column]) != tiny_data.PROTOCOL["optimiser"]["lr"]


@pytest.mark.slow
def test_tuning_again_computes_nothing(tuned):
    before = trials(tuned)
    assert "trial 1/" not in tune(tuned).stdout
    assert trials(tuned) == before


GUARD = """
import os, sys
def watch(event, arguments):
    if event == "open" and any(name in str(arguments[0]) for name in NAMES):
        sys.stderr.write(f"opened {arguments[0]}\\n")
        sys.stderr.flush()
        os._exit(86)
# `fetch` hashes all files of the user; the stages after it have no business with the validation part.
if "pipelines.fetch" not in sys.orig_argv:
    sys.addaudithook(watch)
"""


@pytest.mark.slow
def test_the_validation_part_is_never_opened(tmp_path):
    """Every process of `tune` ends at once when it opens an image or a mask of the validation part."""
    repository_data.write_checkout(tmp_path)
    repository_data.call(tmp_path, *FETCH)
    manifest = json.loads(next((tmp_path / "data/raw/blobs").glob("*.json")).read_text())
    names = [f"{sample['id']}.png" for sample in manifest["samples"] if sample["part"] == "val"]
    assert names
    (tmp_path / "sitecustomize.py").write_text(f"NAMES = {names}\n{GUARD}")
    guarded = repository_data.call(tmp_path, *FETCH[:2], "verify", "blobs", check=False)
    assert guarded.returncode == 86, "the guard sees nothing"
    tune(tmp_path)


@pytest.mark.slow
def test_a_killed_tuning_continues_to_the_same_choice(tuned, tmp_path):
    root = tmp_path / "copy"
    repository_data.write_checkout(root)
    shutil.rmtree(root / "tuned")
    shutil.copytree(tiny_data.ROOT / "tuned", root / "tuned")
    env = os.environ | {
        "PYTHONPATH": str(root),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [str(Path(sys.executable).parent / "rc2l-bench"), "tune", "--dataset", "blobs", "--method", "supervised",
               "--method", "fixmatch"]  # fmt: skip
    killed = subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while not list((root / ".rc2l/tuning").rglob("0.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (root / "tuned/blobs.yaml").exists()
    tune(root)
    assert [row[0] for row in trials(root)] == [row[0] for row in trials(tuned)]


@pytest.mark.slow
def test_two_processes_share_the_trials_of_a_study(tuned, tmp_path):
    repository_data.write_checkout(tmp_path)
    with ThreadPoolExecutor(2) as both:
        said = [done.stdout for done in both.map(lambda _: tune(tmp_path, "--jobs", "1"), range(2))]
    assert [row[0] for row in trials(tmp_path)] == [row[0] for row in trials(tuned)]
    # None is computed twice: what one has trained, the other finds in the store.
    trained = sum(len(re.findall(r"step (\d+)/\1 ", text)) for text in said)
    assert trained == len(trials(tmp_path)) - 1  # a heading is a row
