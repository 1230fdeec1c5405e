"""Modules side by side, each in a fork of one process that has imported torch: seconds saved per training."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from rc2l_bench.console import one_line_errors

START = "forkserver" if sys.platform == "linux" else "spawn"
"""How processes start: elsewhere the libraries that torch loads are not safe to fork, so every process imports anew."""

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
    """
    waiting = list(enumerate(calls))
    plain = min(jobs, len(calls)) > 1
    running: dict[object, tuple[int, BaseProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                index, call = waiting.pop(0)
                process = _start(call, plain)
                running[process.sentinel] = index, process
            for sentinel in wait([process.sentinel for _, process in running.values()]):
                index, process = running.pop(sentinel)
                yield index, _join(process)
    finally:
        # After Ctrl-C no further module begins; those that run have got the signal too and end by themselves.
        for _, process in running.values():
            process.join()


@contextmanager
def _interrupted_later() -> Iterator[None]:
    """Lets a Ctrl-C wait. Processes that start meanwhile inherit this."""
    resource_tracker.ensure_running()  # its start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(call: Sequence[str], plain: bool) -> BaseProcess:
    """Starts a call; a Ctrl-C meanwhile ends it before it begins."""
    context: Any = multiprocessing.get_context(START)
    context.set_forkserver_preload(PRELOADED)
    process: BaseProcess = context.Process(target=_become, args=(list(call), plain))
    with one_line_errors():
        try:
            with _interrupted_later():
                process.start()
        except KeyboardInterrupt:
            process.kill()
            process.join()
            raise
    return process


def _join(process: BaseProcess) -> int:
    process.join()
    code = process.exitcode
    assert code is not None
    return code


def _become(call: list[str], plain: bool) -> None:
    """What `python -m` does, in a fork; `plain` asks for whole lines, because others write to the same terminal."""
    with one_line_errors():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if plain:
            os.environ["TERM"] = "dumb"
        sys.path.insert(0, str(Path.cwd()))
        sys.argv[1:] = call[1:]
        runpy.run_module(call[0], run_name="__main__", alter_sys=True)
