"""Modules side by side, each in a fork of one process that has imported torch: seconds saved per training."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from rc2l_bench.console import SMALLER, errors, one_line_errors
from rc2l_bench.errors import PreemptedError
from rc2l_bench.run.signals import GO_ON, SAME_REQUEST, Relay, end_with_parent, held_back, let_through, relaying

START = "forkserver" if sys.platform == "linux" else "spawn"
"""How processes start: elsewhere the libraries that torch loads are not safe to fork, so every process imports anew."""

KILLED = f"was killed, perhaps because the memory ran out: {SMALLER}"
PRELOADED = ["kornia", "lightning_fabric", "safetensors.torch", "timm"]
"""Libraries that the forks find imported. None of the project's own modules: a fork reads those as they are when it
starts, as their digest in run.json does."""


def count_jobs(wanted: int, threads: int) -> int:
    """How many trainings run at a time: as many as wanted, or for 0 as many as there are cores for."""
    return wanted or max(1, (os.cpu_count() or 1) // threads)


def run_modules(calls: Sequence[Sequence[str]], jobs: int) -> Iterator[tuple[int, int]]:
    """Runs modules as `python -m` would, each in a process of its own.

    Args:
        calls: name of a module and its arguments.
        jobs: processes at a time.

    Yields:
        Index and exit code of every call, as they end; a negative code is the signal that killed it.

    Raises:
        PreemptedError: this process was asked to stop. It has asked the others, waited for them and yielded
            their codes.
    """
    waiting = list(enumerate(calls))
    plain = min(jobs, len(calls)) > 1
    told = False
    running: dict[object, tuple[int, BaseProcess]] = {}
    with relaying() as relay:
        try:
            while running or (waiting and not relay.asked):
                while waiting and len(running) < jobs and not relay.asked:
                    index, call = waiting.pop(0)
                    process = _start(call, plain, relay)
                    running[process.sentinel] = index, process
                for sentinel in wait([process.sentinel for _, process in running.values()]):
                    index, process = running.pop(sentinel)
                    code = _join(process, relay)
                    if code == -signal.SIGKILL and not relay.asked:
                        errors.print(f"{' '.join(calls[index])}: {KILLED}", markup=False)
                    told = told or code != 0
                    yield index, code
        finally:
            # After Ctrl-C no further module begins; those that run have got the signal too and end by themselves.
            _wait_for([process for _, process in running.values()], relay)
        if relay.asked:
            # Even where every call has ended well: whoever asked wants nothing more to begin.
            raise PreemptedError("" if told else f"stopped; {GO_ON}")


def _wait_for(processes: Sequence[BaseProcess], relay: Relay) -> None:
    """Waits for the end of processes that should have been told by the terminal, and tells those that were not."""
    begin = time.monotonic()
    for process in processes:
        process.join(max(0.0, begin + SAME_REQUEST - time.monotonic()))
    relay.send(signal.SIGUSR1)
    for process in processes:
        _join(process, relay)


def _start(call: Sequence[str], plain: bool, relay: Relay) -> BaseProcess:
    """Starts a call; a Ctrl-C meanwhile ends it before it begins."""
    context: Any = multiprocessing.get_context(START)
    context.set_forkserver_preload(PRELOADED)
    process: BaseProcess = context.Process(target=_become, args=(list(call), plain))
    with one_line_errors():
        with held_back():
            # Before the rest, because its start lets SIGINT and SIGTERM through again.
            resource_tracker.ensure_running()
        try:
            with held_back():
                process.start()
                assert process.pid is not None
                relay.add(process.pid)
        except KeyboardInterrupt:
            process.kill()
            _join(process, relay)
            raise
    return process


def _join(process: BaseProcess, relay: Relay) -> int:
    process.join()
    code, number = process.exitcode, process.pid
    assert code is not None
    assert number is not None
    relay.remove(number)
    return code


def _become(call: list[str], plain: bool) -> None:
    """What `python -m` does, in a fork; `plain` asks for whole lines, because others write to the same terminal."""
    with one_line_errors():
        end_with_parent()
        let_through()
        if plain:
            os.environ["TERM"] = "dumb"
        sys.path.insert(0, str(Path.cwd()))
        sys.argv[1:] = call[1:]
        runpy.run_module(call[0], run_name="__main__", alter_sys=True)
