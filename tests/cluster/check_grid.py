"""A grid on a real Slurm: preempted, stopped by its time limit, spread over processes and nodes. `make test-cluster`.

Not collected by `make test`: it needs slurm-wlm and munge.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import repository_data
import tiny_data
from repository_data import call
from slurm_pair import NODES, find_fault, open_pair, until

from rc2l_bench.run.process_pool import PRELOADED
from rc2l_bench.schema import read_yaml

GRID = {"dataset": ["blobs"], "split": ["1_2"], "method": ["baselines/cps"], "seed": [0, 1]}
CELLS = 2
"""Of the grid; each has a node."""
STEPS = 60
FILES = ("model.safetensors", "metrics.json", "confusion.npz", "history.csv")
"""Of a result: all that must not depend on what happened on the way."""
ON = ("rc2l-bench", "run", "--grid", "--on", "slurm")
CLUSTER = read_yaml(tiny_data.ROOT / "cluster.yaml") | {"memory_gb": 1}


class Told(NamedTuple):
    """What was seen of a grid that was preempted.

    Attributes:
        first: output of the command that submitted it.
        second: of the same command again.
        stopped: by task, the step that its log names and the newest checkpoint in the store.
        table: of `rc2l-bench jobs` while all wait.
        last: output of the command when all is done.
        seconds: from the submission to the end.
    """

    first: str
    second: str
    stopped: list[tuple[int, int]]
    table: str
    last: str
    seconds: float


@pytest.fixture(scope="module", autouse=True)
def pair(tmp_path_factory) -> Iterator[None]:
    if fault := find_fault():
        pytest.skip(f"test-cluster: skipped: {fault}")
    with open_pair(tmp_path_factory.mktemp("pair")) as env, pytest.MonkeyPatch.context() as patch:
        more = {"COLUMNS": "200"} | keep_bytecode(tmp_path_factory.mktemp("bytecode"))
        for name, value in (env | more).items():
            patch.setenv(name, value)
        yield


def keep_bytecode(folder: Path) -> dict[str, str]:
    """Compiles libraries once where Python keeps no bytecode: else each of many processes would, for ten seconds."""
    if not sys.dont_write_bytecode:
        return {}
    env = {"PYTHONPYCACHEPREFIX": str(folder)}
    modules = [*PRELOADED, "torch.distributed.run", "rc2l_bench.run.runner", "rc2l_bench.cli.app"]
    subprocess.run([sys.executable, "-c", f"import {', '.join(modules)}"], check=True,
                   env=os.environ | env | {"PYTHONDONTWRITEBYTECODE": ""})  # fmt: skip
    return env


def write_cluster(root: Path, **changes: Any) -> None:
    tiny_data.write_yaml(root / "cluster.yaml", CLUSTER | changes)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """A checkout whose grid was trained here, without an interruption."""
    root = tmp_path_factory.mktemp("unbroken")
    runtime = {"checkpoint_every": 10, "log_every": 5}
    repository_data.write_checkout(root, grid=GRID, protocol={"default": {"steps": STEPS}}, runtime=runtime)
    write_cluster(root)
    call(root, "rc2l-bench", "run", "--grid", "--jobs", "2")
    return root


def copy(root: Path, folder: Path) -> Path:
    """A checkout with the same data, and nothing trained."""
    shutil.copytree(root, folder, dirs_exist_ok=True, ignore=lambda at, _: {"runs"} if Path(at) == root else set())
    shutil.rmtree(folder / ".rc2l/runs")
    return folder


def hashes(root: Path) -> dict[str, str]:
    files = (path for path in (root / "runs").rglob("*") if path.name in FILES)
    return {str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest() for path in files}


def states(root: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(root.glob(".rc2l/jobs/*/*.state"))]


def logs(root: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(root.glob(".rc2l/jobs/*/*.log")))


def newest(run: Path) -> int:
    return max((int(path.stem.removeprefix("step-")) for path in run.glob("step-*.ckpt")), default=0)


@contextmanager
def nodes_taken() -> Iterator[None]:
    """Somebody else's job, which may take nodes away, has all of them."""
    words = ["--parsable", "--partition=high", f"--nodes={len(NODES)}", "--exclusive", "--output=/dev/null"]
    job = subprocess.run(["sbatch", *words, "--wrap=sleep 600"], check=True, capture_output=True, text=True).stdout
    try:
        yield
    finally:
        subprocess.run(["scancel", job.strip()], check=True)


@pytest.fixture(scope="module")
def told(unbroken, tmp_path_factory) -> tuple[Path, Told]:
    root = copy(unbroken, tmp_path_factory.mktemp("preempted"))
    begin = time.monotonic()
    first = call(root, *ON).stdout
    second = call(root, *ON).stdout
    until(lambda: len(list(root.glob(".rc2l/runs/*/step-*.ckpt"))) >= len(NODES), lambda: logs(root))
    with nodes_taken():
        until(lambda: [state["state"] for state in states(root)] == ["stopped"] * len(NODES), lambda: logs(root))
        said = sorted(int(step) for step in re.findall(r"stopped after step (\d+)", logs(root)))
        kept = sorted(filter(None, map(newest, root.glob(".rc2l/runs/*"))))
        table = call(root, "rc2l-bench", "jobs").stdout
    until(lambda: [state["state"] for state in states(root)] == ["done"] * CELLS, lambda: logs(root))
    seconds = time.monotonic() - begin
    call(root, "rc2l-bench", "jobs", "--wait")
    return root, Told(first, second, list(zip(said, kept, strict=True)), table, call(root, *ON).stdout, seconds)


def test_a_grid_that_was_preempted_has_the_bytes_of_an_unbroken_one(unbroken, told, capsys):
    root, seen = told
    assert len(hashes(unbroken)) == CELLS * len(FILES)
    assert hashes(root) == hashes(unbroken)
    with capsys.disabled():
        lost = sum(step - kept for step, kept in seen.stopped)
        steps = " and ".join(str(step) for step, _ in seen.stopped)
        print(  # noqa: T201 - the figures of the test
            f"\npreempted after {steps} of {STEPS} steps: {lost} steps lost, {seen.seconds:.0f} seconds in all, "
            f"{len(hashes(root))} files with the same sha256"
        )


def test_no_step_is_lost(told):
    assert len(told[1].stopped) == len(NODES)
    assert all(0 < step == kept < STEPS for step, kept in told[1].stopped)


def test_the_cells_of_a_grid_are_submitted(told):
    assert re.search(
        rf"^{CELLS} runs submitted as \d+, 0 wait or run already, 0 are finished;", told[1].first, re.MULTILINE
    )


def test_what_waits_is_not_submitted_twice(told):
    assert f"0 runs submitted, {CELLS} wait or run already" in told[1].second


def test_jobs_says_what_waits_and_that_it_was_put_back(told):
    assert f"{CELLS} waits" in told[1].table
    assert len(re.findall(r"blobs 1_2 \S+ seed \d +waits +n\d +1\b", told[1].table)) == CELLS


def test_the_same_command_shows_the_results(told):
    assert "mIoU" in told[1].last
    assert told[1].last.count("files: runs/blobs/1_2/") == CELLS


def test_a_report_is_made_of_them(told):
    call(told[0], "rc2l-bench", "report")
    assert (told[0] / "reports/index.html").is_file()


def test_a_task_whose_sources_have_changed_computes_nothing(unbroken, tmp_path):
    root = copy(unbroken, tmp_path)
    write_cluster(root, options=["--begin=now+2"])
    call(root, *ON)
    with (root / "baselines/cps.py").open("a") as file:
        file.write("MORE = 1\n")
    until(lambda: [state["state"] for state in states(root)] == ["failed"] * CELLS, lambda: logs(root))
    table = call(root, "rc2l-bench", "jobs").stdout
    assert table.count("differs from where this was submitted: other source: a run from here") == CELLS
    assert table.splitlines()[-1] == f"{CELLS} failed"
    assert not list(root.glob("runs/*/*/*/*/*"))


def test_a_grid_that_was_cancelled_stays_out_of_the_queue(unbroken, tmp_path):
    root = copy(unbroken, tmp_path)
    job = re.search(r"submitted as (\d+)", call(root, *ON).stdout)
    until(lambda: len(list(root.glob(".rc2l/runs/*/step-*.ckpt"))) >= len(NODES), lambda: logs(root))
    subprocess.run(["scancel", job[1]], check=True)
    until(lambda: [state["state"] for state in states(root)] == ["cancelled"] * CELLS, lambda: logs(root))
    said = call(root, "rc2l-bench", "jobs", "--wait", check=False)
    assert (said.returncode, said.stdout.count("was cancelled: submit again, it continues")) == (1, CELLS)
    assert subprocess.run(["squeue", "-h", "-t", "PENDING"], check=True, capture_output=True).stdout == b""


def test_a_run_of_two_processes_on_two_nodes_is_the_same_as_on_one(unbroken, tmp_path):
    cell = ("rc2l-bench", "run", "--dataset", "blobs", "--split", "1_2", "--method", "cps")
    here, there = copy(unbroken, tmp_path / "here"), copy(unbroken, tmp_path / "there")
    for root in (here, there):
        few = {"runtime": {"devices": 2}, "protocol": {"default": {"steps": 4}}}
        tiny_data.write_yaml(root / "params.yaml", tiny_data.merged(read_yaml(root / "params.yaml"), few))
    write_cluster(there, nodes=2, processes=2)
    call(there, *cell, "--on", "slurm")
    call(here, *cell)
    until(lambda: [state["state"] for state in states(there)] == ["done"], lambda: logs(there))
    call(there, *cell, "--on", "slurm")
    assert len(hashes(here)) == len(FILES)
    assert hashes(there) == hashes(here)
