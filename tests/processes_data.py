"""Stages as processes of their own that start at once: forked from one that has imported the large libraries."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from pathlib import Path

from rc2l_bench.run.process_pool import PRELOADED, _become

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(PRELOADED)


def _be(module: str, arguments: list[str], folder: Path, limit: int | None, output: Path, errors: Path) -> None:
    """What `python -m module arguments` in a folder is."""
    for path, descriptor in ((output, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), descriptor)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    _become([module, *arguments], plain=False)


class Stage:
    """A running `python -m module arguments`."""

    def __init__(self, module: str, *arguments: str, cwd: Path, limit: int | None = None) -> None:
        """Starts it.

        Args:
            module: what to run.
            arguments: of the command line.
            cwd: folder to run it in.
            limit: bytes that a file may have.
        """
        Stage.count += 1
        self.output, self.errors = (cwd / f".{name}{Stage.count}" for name in ("output", "errors"))
        self.process = CONTEXT.Process(target=_be, args=(module, list(arguments), cwd, limit, self.output, self.errors))
        self.process.start()

    count = 0

    @property
    def running(self) -> bool:
        return self.process.is_alive()

    def send(self, what: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, what)

    def kill(self) -> None:
        """Kills it and waits."""
        self.send(signal.SIGKILL)
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL

    def end(self, code: int = 0) -> str:
        """Waits for the end; returns what it said on stderr."""
        self.process.join(200)
        said = self.errors.read_text()
        assert self.process.exitcode == code, said
        return said
