from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rc2l_bench.errors import PreemptedError
from rc2l_bench.run import process_pool
from rc2l_bench.run.process_pool import run_modules

pytestmark = pytest.mark.usefixtures("own_servers")

MODULE = """
import json, os, pathlib, signal, sys, time
known = sorted(sys.modules)
name, task = sys.argv[1:3]
facts = {"main": __spec__.name, "arguments": sys.argv[1:], "process": os.getpid(), "parent": os.getppid(),
         "term": os.environ.get("TERM"), "known": known}
if task == "meet":
    pathlib.Path(f"{name}.here").touch()
    while len(list(pathlib.Path().glob("*.here"))) < 2:
        time.sleep(0.01)
if task == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path(f"{name}.json").write_text(json.dumps(facts))
sys.exit(int(task) if task.isdigit() else 0)
"""
MAIN = """
import signal, sys
from rc2l_bench.run.process_pool import run_modules
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    try:
        print("here", flush=True)
        list(run_modules([["work"]], 1))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a module, which is not on the path of this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    (tmp_path / "work.py").write_text(MODULE)
    return tmp_path


def facts(here: Path, name: str) -> dict:
    return json.loads((here / f"{name}.json").read_text())


def test_a_module_is_run_as_python_m_would(here):
    assert list(run_modules([["work", "a", "go", "--x=1"]], 1)) == [(0, 0)]
    assert facts(here, "a")["main"] == "work"
    assert facts(here, "a")["arguments"] == ["a", "go", "--x=1"]


def test_every_call_has_its_own_process_of_one_server(here):
    assert sorted(run_modules([["work", "a", "go"], ["work", "b", "go"]], 2)) == [(0, 0), (1, 0)]
    a, b = facts(here, "a"), facts(here, "b")
    assert len({a["process"], b["process"], os.getpid()}) == 3
    assert a["parent"] == b["parent"] != os.getpid()


@pytest.mark.parametrize("task", ["go", "kill"])
def test_a_module_runs_where_forks_are_not_safe(here, monkeypatch, task):
    monkeypatch.setattr(process_pool, "START", "spawn")
    assert list(run_modules([["work", "a", task]], 1)) == [(0, -signal.SIGKILL if task == "kill" else 0)]


def test_the_libraries_that_take_long_to_import_are_there_before(here):
    list(run_modules([["work", "a", "go"]], 1))
    assert {"torch", "timm", "kornia", "lightning_fabric"} <= set(facts(here, "a")["known"])


def test_the_code_of_a_training_is_read_when_it_starts(here):
    list(run_modules([["work", "a", "go"]], 1))
    own = {name for name in facts(here, "a")["known"] if name.startswith(("rc2l_bench.", "baselines", "pipelines"))}
    assert own == {
        "rc2l_bench.console",
        "rc2l_bench.errors",
        "rc2l_bench.run",
        "rc2l_bench.run.process_pool",
        "rc2l_bench.run.signals",
    }


def test_calls_run_side_by_side(here):
    assert sorted(run_modules([["work", "a", "meet"], ["work", "b", "meet"]], 2)) == [(0, 0), (1, 0)]


def test_no_more_run_than_jobs(here):
    (here / "order.py").write_text("import sys, time; print(sys.argv[1], file=open('log', 'a')); time.sleep(0.2)\n"
                                   "print('end', file=open('log', 'a'))")  # fmt: skip
    assert list(run_modules([["order", "0"], ["order", "1"], ["order", "2"]], 1)) == [(0, 0), (1, 0), (2, 0)]
    assert (here / "log").read_text().split() == ["0", "end", "1", "end", "2", "end"]


def test_a_code_is_that_of_its_call(here):
    assert sorted(run_modules([["work", "a", "3"], ["work", "b", "0"], ["work", "c", "4"]], 2)) == [
        (0, 3),
        (1, 0),
        (2, 4),
    ]


def test_a_module_that_is_killed_gives_the_signal_and_stops_no_other(here):
    assert sorted(run_modules([["work", "a", "kill"], ["work", "b", "go"]], 1)) == [(0, -signal.SIGKILL), (1, 0)]


@pytest.mark.parametrize(("calls", "jobs", "term"), [(1, 2, "xterm"), (2, 1, "xterm"), (2, 2, "dumb")])
def test_only_side_by_side_the_terminal_is_asked_for_whole_lines(here, calls, jobs, term):
    list(run_modules([["work", "a", "go"], ["work", "b", "go"]][:calls], jobs))
    assert facts(here, "a")["term"] == term
    assert os.environ["TERM"] == "xterm"


def test_a_request_to_stop_is_kept_though_all_calls_end_well(here):
    """The next stage must not begin only because the last call of this one was nearly through."""
    (here / "asking.py").write_text(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
        "os.kill(int(sys.argv[1]), signal.SIGTERM); time.sleep(0.5)"
    )
    codes = run_modules([["asking", str(os.getpid())]], 1)
    assert next(codes) == (0, 0)
    with pytest.raises(PreemptedError, match=r"^stopped; the same command continues"):
        next(codes)


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.8, 2])
def test_an_interrupt_while_the_server_starts_is_one_line(here, seconds):
    (here / "main.py").write_text(MAIN)
    (here / "work.py").write_text("import time; time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "main.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "here\n"
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=50)[1]
    assert process.returncode == 130
    assert errors == "interrupted; the same command continues where this one stopped\n"
