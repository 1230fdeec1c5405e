from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_data

from rc2l_bench.data.split_lists import pin
from rc2l_bench.errors import UsageError
from rc2l_bench.run import pipeline
from rc2l_bench.run.pipeline import Stage, carry_out_cells, cell_stages
from rc2l_bench.schema import read_yaml
from rc2l_bench.variants import file_name_of, find_methods, resolve_method

pytestmark = pytest.mark.usefixtures("own_servers")

ITEM = {"dataset": "shapes", "split": "1_16", "method": "baselines/supervised", "seed": "0"}
SHARED = ("fetch", "catalog", "pool")
METHODS = [
    "baselines/cps",
    "baselines/supervised",
    "baselines/supervised_region",
    "rc2l_bench/methods/rc2l",
    "mine/cps",
]
SCRIPT = """
import pathlib, sys
pathlib.Path("count").open("a").write("x")
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out/file").write_text(pathlib.Path("in").read_text())
sys.exit(int(sys.argv[1]))
"""
CHAIN = """
import pathlib, sys
pathlib.Path("log").open("a").write(" ".join(sys.argv[1:]) + "\\n")
sys.exit(pathlib.Path(f"fail-{sys.argv[1]}-{sys.argv[-1]}").exists() * 3)
"""

SLEEPING_CHAIN = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    pathlib.Path("log").open("a").write(sys.argv[1] + "\\n")
    time.sleep(60 * (sys.argv[1] == "train"))
except KeyboardInterrupt:
    time.sleep(0.5)
    sys.stderr.write("interrupted\\n")
    sys.exit(130)
"""

MANY = """
import json, signal, sys, typer
from rc2l_bench.cli import app as cli
from rc2l_bench.run.pipeline import carry_out_cells
def main(items, jobs):
    cells = json.loads(items)
    cli._carry_out(cells, lambda: carry_out_cells(cells, int(jobs)))
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    typer.run(main)
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a stage, its input and its parameters."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stage.py").write_text(SCRIPT)
    (tmp_path / "in").write_text("1")
    (tmp_path / "params.yaml").write_text("a: {x: 1}\nb: 2\nc: 3\n")
    (tmp_path / "own.yaml").write_text("k: 1\n")
    return tmp_path


def stage(code: int = 0, name: str = "s") -> Stage:
    return Stage(name=name, command=[sys.executable, "stage.py", str(code)], deps=[Path("in"), Path("stage.py")],
                 params=["a.x", "b", "own.yaml:"], outs=[Path("out")])  # fmt: skip


def times(here: Path) -> int:
    return len((here / "count").read_text()) if (here / "count").exists() else 0


def touched(path: Path, text: str) -> None:
    """Writes a file at another time than before, however coarse the clock."""
    before = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_a_stage_runs_once(here):
    assert stage().carry_out() == 0
    assert stage().carry_out() == 0
    assert times(here) == 1


@pytest.mark.parametrize(
    ("file", "text"),
    [("in", "2"), ("stage.py", SCRIPT + "#"), ("params.yaml", "a: {x: 2}\nb: 2\nc: 3\n"),
     ("params.yaml", "a: {x: 1}\nb: 3\nc: 3\n"), ("own.yaml", "k: 2\n"), ("out/file", "changed")],
)  # fmt: skip
def test_a_stage_runs_again_when_something_of_it_changed(here, file, text):
    stage().carry_out()
    touched(here / file, text)
    stage().carry_out()
    assert times(here) == 2


def test_a_stage_does_not_run_again_for_what_it_does_not_read(here):
    stage().carry_out()
    touched(here / "params.yaml", "a: {x: 1}\nb: 2\nc: 4\n")
    (here / "other").touch()
    stage().carry_out()
    assert times(here) == 1


def test_a_list_that_is_imported_again_is_noticed(checkout, monkeypatch):
    """By `rc2l-bench run`; `dvc repro` has the same template."""
    monkeypatch.chdir(checkout)
    item = {"dataset": "tiny", "split": "1_4", "method": "baselines/cps", "seed": "0"}
    split = next(stage for stage in cell_stages(item) if stage.name == "split")
    pin(Path("splits/tiny/1_4.txt"), ["train_00", "train_01"], None, {"list": "few"})
    split.record(split.inputs())
    assert split.fresh()
    pin(Path("splits/tiny/1_4.txt"), ["train_00", "train_02"], None, {"list": "few"})
    assert not split.fresh()


def test_a_stage_runs_again_when_its_out_is_gone(here):
    stage().carry_out()
    (here / "out/file").unlink()
    stage().carry_out()
    assert times(here) == 2


def test_a_stage_whose_input_changed_while_it_ran_is_not_fresh(here):
    (here / "stage.py").write_text(SCRIPT.replace("sys.exit", "pathlib.Path('in').write_text('222')\nsys.exit"))
    assert stage().carry_out() == 0
    assert not stage().fresh()


def test_another_command_is_another_stage(here):
    stage().carry_out()
    assert not stage(code=3).fresh()
    assert stage().fresh()


def test_a_stage_that_failed_is_not_fresh_and_gives_its_code(here):
    assert stage(code=3).carry_out() == 3
    assert stage(code=3).carry_out() == 3
    assert times(here) == 2


def test_a_stage_that_always_runs_runs_again(here):
    for _ in range(2):
        assert replace(stage(), always=True).carry_out() == 0
    assert times(here) == 2


def test_caches_of_python_do_not_count(here):
    folder = here / "in_folder"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "a").touch()
    before = pipeline._state(folder)
    (folder / "__pycache__/a.pyc").touch()
    assert pipeline._state(folder) == before


def test_a_cell_has_the_stages_of_dvc_in_order():
    found = cell_stages(ITEM, tiny_data.ROOT)
    assert [stage.name for stage in found] == [
        "scan",
        "fetch",
        "catalog",
        "split",
        "pool",
        "label",
        "audit",
        "protocol",
        "train",
    ]
    made: set[Path] = set()
    for one in found:
        needed = {path for path in one.deps if path.parts[0] == "data"}
        assert {path for path in needed if not any(out == path or out in path.parents for out in made)} == set()
        made |= set(one.outs)


def test_nothing_of_a_template_is_left_in_a_stage():
    for one in cell_stages(ITEM, tiny_data.ROOT):
        words = [*one.command, *map(str, [*one.deps, *one.outs]), *one.params]
        assert not [word for word in words if "${" in word]
        assert not [word for word in one.command if "\n" in word]


def test_every_stage_is_a_module():
    assert {one.command[1] for one in cell_stages(ITEM, tiny_data.ROOT)} == {"-m"}


def test_a_stage_runs_the_python_that_runs_now():
    assert {one.command[0] for one in cell_stages(ITEM, tiny_data.ROOT)} == {sys.executable}


@pytest.mark.parametrize("method", ["baselines/cps", "baselines/cps@plain", "rc2l_bench/methods/rc2l@rmc"])
def test_the_train_stage_watches_the_files_of_its_method_and_of_a_variant(method):
    train = cell_stages({**ITEM, "method": method}, tiny_data.ROOT)[-1]
    assert any(Path(method).is_relative_to(folder) for folder in train.deps)
    assert train.outs == [Path(f"runs/shapes/1_16/{file_name_of(method)}/seed0")]


def test_every_parameter_of_the_stages_is_there():
    top = read_yaml(tiny_data.ROOT / "params.yaml")
    for one in cell_stages(ITEM, tiny_data.ROOT):
        for entry in one.params:
            if not entry.endswith(":"):
                assert entry.split(".")[0] in top, entry


def test_every_file_that_a_stage_depends_on_is_there():
    for method in find_methods(tiny_data.ROOT):
        for one in cell_stages(ITEM | {"method": method}, tiny_data.ROOT):
            missing = [path for path in one.deps if path.parts[0] != "data" and not (tiny_data.ROOT / path).exists()]
            assert missing == []


def test_outside_a_checkout_one_is_told(tmp_path):
    with pytest.raises(UsageError, match=f"{re.escape(str(tmp_path))}: there is no dvc.yaml here"):
        cell_stages(ITEM, tmp_path)


@pytest.fixture
def chain(tmp_path, monkeypatch) -> Path:
    """A checkout whose stages write down that they ran."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chain.py").write_text(CHAIN)
    (tmp_path / "params.yaml").write_text("a: 1\n")
    shared = {name: {"cmd": f"python -m chain {name} ${{item.dataset}}"} for name in SHARED}
    first = {"scan": {"cmd": "python -m chain scan ${item.dataset}", "always_changed": True}}
    (tmp_path / "pipelines").mkdir()
    tiny_data.write_yaml(tmp_path / "pipelines/dvc.yaml", {"stages": first})
    own = {name: {"cmd": f"python -m chain {name} ${{item.split}}"} for name in ("split", "label", "audit")}
    last = {"protocol": {"cmd": "python -m chain protocol of-all"},
            "train": {"cmd": "python -m chain train ${item.method} ${item.seed}"}}  # fmt: skip
    tiny_data.write_yaml(tmp_path / "dvc.yaml", {"stages": shared | own | last})
    return tmp_path


def cells(count: int) -> list[dict[str, str]]:
    return [ITEM | {"seed": str(seed)} for seed in range(count)]


@pytest.mark.parametrize("jobs", [1, 3])
def test_several_cells_share_the_stages_of_the_data(chain, jobs):
    assert carry_out_cells(cells(3), jobs) == [0, 0, 0]
    lines = (chain / "log").read_text().splitlines()
    data = ["scan shapes", "fetch shapes", "catalog shapes", "split 1_16", "pool shapes", "label 1_16", "audit 1_16"]
    assert lines[:8] == [*data, "protocol of-all"]
    assert sorted(lines[8:]) == [f"train baselines/supervised {seed}" for seed in range(3)]


def test_a_stage_of_the_data_that_fails_ends_it_all(chain):
    (chain / "fail-split-1_16").touch()
    assert carry_out_cells(cells(2), 1) == [3]
    assert (chain / "log").read_text().splitlines() == ["scan shapes", "fetch shapes", "catalog shapes", "split 1_16"]


def test_a_training_that_succeeded_does_not_run_again(chain):
    (chain / "fail-train-1").touch()
    carry_out_cells(cells(2), 2)
    (chain / "fail-train-1").unlink()
    assert carry_out_cells(cells(2), 2) == [0]
    lines = (chain / "log").read_text().splitlines()[8:]
    assert sorted(lines) == ["scan shapes", "train baselines/supervised 0", *["train baselines/supervised 1"] * 2]


def test_a_training_that_fails_does_not_stop_the_others(chain):
    (chain / "fail-train-1").touch()
    assert carry_out_cells(cells(3), 1) == [0, 3, 0]


@pytest.mark.parametrize("jobs", [1, 2])
def test_after_an_interrupt_no_further_training_begins(chain, jobs):
    """As in a terminal, where Ctrl-C reaches the command and its stages alike."""
    (chain / "chain.py").write_text(SLEEPING_CHAIN)
    (chain / "many.py").write_text(MANY)
    command = [sys.executable, "many.py", json.dumps(cells(4)), str(jobs)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while (chain / "log").read_text().count("train") < jobs if (chain / "log").exists() else True:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert errors.splitlines() == ["interrupted"] * jobs
    assert (chain / "log").read_text().count("train") == jobs


def test_all_methods_of_the_checkout_are_found():
    found = find_methods(tiny_data.ROOT)
    assert {"baselines/supervised", "rc2l_bench/methods/rc2l"} <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("name", "method"),
    [("supervised", "baselines/supervised"), ("baselines/supervised", "baselines/supervised"),
     ("rc2l", "rc2l_bench/methods/rc2l"), ("supervised_region", "baselines/supervised_region"),
     ("mine/cps", "mine/cps")],
)  # fmt: skip
def test_a_unique_tail_names_a_method(name, method):
    assert resolve_method(name, METHODS) == method


def test_a_tail_of_two_methods_is_ambiguous():
    with pytest.raises(UsageError, match="'cps' is ambiguous: baselines/cps, mine/cps"):
        resolve_method("cps", METHODS)


@pytest.mark.parametrize(("name", "meant"), [("supervized", "supervised"), ("rcl2", "rc2l")])
def test_a_misspelt_method_names_the_nearest(name, meant):
    with pytest.raises(UsageError, match=rf"unknown method '{name}': did you mean '{meant}'\?"):
        resolve_method(name, METHODS)


@pytest.mark.parametrize("name", ["", "/", "pervised", "zzz"])
def test_what_is_no_tail_is_no_method(name):
    with pytest.raises(UsageError, match="unknown method"):
        resolve_method(name, METHODS)
