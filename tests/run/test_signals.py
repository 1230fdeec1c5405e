"""Signals: what a training makes of them, and what becomes of the processes of a command. All processes are real."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rc2l_bench.errors import PreemptedError
from rc2l_bench.run import signals
from rc2l_bench.run.signals import Preemption, listening

pytestmark = pytest.mark.usefixtures("own_servers")

STOPPING = [signal.SIGTERM, signal.SIGUSR1]

WORK = """
import os, pathlib, sys, time
from rc2l_bench.console import one_line_errors
from rc2l_bench.run.signals import listening
name, kind = sys.argv[1:3]
here = pathlib.Path(f"{name}.pid")
with one_line_errors(), listening() as preemption:
    if kind == "stubborn":  # a step that does not end
        with preemption.protected():
            here.write_text(str(os.getpid()))
            time.sleep(120)
    here.write_text(str(os.getpid()))
    for step in range(1200):
        with preemption.protected():
            time.sleep(0.1)
            pathlib.Path(f"{name}.step").write_text(str(step))
"""
POOL = """
import signal, sys
from rc2l_bench.console import one_line_errors
from rc2l_bench.run.process_pool import run_modules
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with one_line_errors():
        for _, code in run_modules([["work", name, sys.argv[1]] for name in "abc"], 2):
            print(code, flush=True)
"""
STAGE = """
import sys
from pathlib import Path
from rc2l_bench.console import one_line_errors
from rc2l_bench.run.pipeline import Stage
with one_line_errors():
    command = [sys.executable, "-m", "work", "a", sys.argv[1]]
    sys.exit(Stage(name="s", command=command, deps=[], params=[], outs=[]).carry_out())
"""


def test_a_signal_interrupts_what_is_not_protected():
    preemption = Preemption()
    with pytest.raises(PreemptedError) as caught:
        preemption.handle(signal.SIGTERM, None)
    assert caught.value.exit_code == PreemptedError.CONTINUE == 75
    assert str(caught.value) == "stopped; the same command continues where this one stopped"


def test_what_is_protected_is_finished_first():
    preemption, done = Preemption(), []

    def work() -> None:
        with preemption.protected():
            preemption.handle(signal.SIGUSR1, None)
            done.append(1)

    with pytest.raises(PreemptedError):
        work()
    assert done == [1]


def test_the_same_request_twice_is_one():
    """The group of a process and its parent both send it."""
    preemption, taken = Preemption(), []

    def work() -> None:
        with preemption.protected():
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
                preemption.handle(number, None)
                taken.append(number)

    with pytest.raises(PreemptedError):
        work()
    assert len(taken) == 3, "the process is still there"


def test_processes_that_train_together_are_not_interrupted():
    preemption = Preemption(first=False)
    with preemption.protected():
        preemption.handle(signal.SIGTERM, None)
    assert preemption.asked
    with pytest.raises(PreemptedError) as caught:
        preemption.stop()
    assert (caught.value.exit_code, str(caught.value)) == (0, ""), "the first process speaks for all"


def test_after_ctrl_c_the_code_is_that_of_an_interrupt():
    with pytest.raises(PreemptedError) as caught:
        Preemption().handle(signal.SIGINT, None)
    assert caught.value.exit_code == 130


def test_what_stops_a_process_is_not_taken_for_an_error():
    assert not issubclass(PreemptedError, Exception)


@pytest.mark.parametrize("number", [*STOPPING, signal.SIGINT])
def test_handlers_are_there_while_listening_and_no_longer(number):
    before = signal.getsignal(number)
    with listening() as preemption, pytest.raises(PreemptedError), preemption.protected():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_a_job_in_the_background_ignores_ctrl_c_as_before():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening() as preemption:
            os.kill(os.getpid(), signal.SIGINT)
        assert not preemption.asked
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def here(tmp_path) -> Path:
    for name, text in (("work", WORK), ("pool", POOL), ("stage", STAGE)):
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


@contextlib.contextmanager
def started(here: Path, *command: str, ready: int) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A command in a process group of its own, once so many of its processes work; and these."""
    with subprocess.Popen(
        [sys.executable, *command], cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            until(lambda: process.poll() is not None or len(numbers(here)) == ready)
            assert process.poll() is None, process.communicate()
            yield process, numbers(here)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def numbers(here: Path) -> list[int]:
    return sorted(int(text) for path in here.glob("*.pid") if (text := path.read_text()))


def until(true: Callable[[], bool]) -> None:
    """Waits for a minute at most."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", STOPPING)
def test_a_command_passes_on_a_signal_and_waits(here, number):
    with started(here, "pool.py", "work", ready=2) as (command, works):
        command.send_signal(number)
        output, errors = command.communicate(timeout=60)
    assert command.returncode == 75
    assert output.split() == ["75", "75"], "no further one is started"
    assert errors.splitlines() == ["stopped; the same command continues where this one stopped"] * 2
    assert not any(map(alive, works))


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_to_the_whole_group_is_the_same_request(here, number):
    with started(here, "pool.py", "work", ready=2) as (command, works):
        os.killpg(command.pid, number)
        output, errors = command.communicate(timeout=60)
    assert (command.returncode, output.split()) == (75, ["75", "75"])
    assert errors.splitlines() == ["stopped; the same command continues where this one stopped"] * 2
    assert not any(map(alive, works))


def test_a_second_signal_ends_a_command_and_its_processes_at_once(here):
    with started(here, "pool.py", "stubborn", ready=2) as (command, works):
        command.send_signal(signal.SIGTERM)
        time.sleep(signals.SAME_REQUEST + 0.3)
        assert command.poll() is None, "the first one waits for the step"
        command.send_signal(signal.SIGTERM)
        assert command.wait(20) == -signal.SIGTERM
        until(lambda: not any(map(alive, works)))


def test_a_second_signal_ends_a_training_at_once(here):
    with started(here, "-m", "work", "a", "stubborn", ready=1) as (training, _):
        training.send_signal(signal.SIGUSR1)
        time.sleep(signals.SAME_REQUEST + 0.3)
        assert training.poll() is None
        training.send_signal(signal.SIGUSR1)
        assert training.wait(20) == -signal.SIGUSR1


@pytest.mark.parametrize("script", ["pool.py", "stage.py"])
def test_no_process_outlives_a_command_that_is_killed(here, script):
    with started(here, script, "stubborn", ready=2 if script == "pool.py" else 1) as (command, works):
        command.kill()
        assert command.wait() == -signal.SIGKILL
        until(lambda: not any(map(alive, works)))
        assert not any(map(alive, works))


def test_an_interrupt_that_reaches_the_command_alone_is_passed_on(here):
    with started(here, "pool.py", "work", ready=2) as (command, works):
        command.send_signal(signal.SIGINT)
        errors = command.communicate(timeout=60)[1]
    assert command.returncode == 130
    assert errors.splitlines().count("stopped; the same command continues where this one stopped") == 2
    assert not any(map(alive, works))


@pytest.mark.parametrize("number", STOPPING)
def test_a_stage_gets_the_signals_of_its_command(here, number):
    with started(here, "stage.py", "work", ready=1) as (command, works):
        command.send_signal(number)
        errors = command.communicate(timeout=60)[1]
    assert command.returncode == 75
    assert set(errors.splitlines()) == {"stopped; the same command continues where this one stopped"}
    assert not any(map(alive, works))
