"""One run as a task of Ray, on its node.

`perform` is called in a process of Ray's, which lives longer than a task and may be killed at any moment. It starts
another one, `python -m rc2l_bench.run.ray_task FOLDER NUMBER`, which ends with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rc2l_bench.cluster import ClusterConfig
from rc2l_bench.console import guarded
from rc2l_bench.errors import BusyError, PreemptedError
from rc2l_bench.run.assignments import Assignment, carry_out, node_name
from rc2l_bench.run.owners import ATTEMPT, JOB
from rc2l_bench.run.signals import listening, prepare_child
from rc2l_bench.run.store import Run
from rc2l_bench.run.submissions import Submission

POLL, PATIENCE = 0.5, 60.0
"""Seconds between two looks at what a former attempt holds, and for how long."""
PASSED_ON = "RC2L_BENCH_"
"""How the variables begin that a task gets from the command that started it."""


class Errand(NamedTuple):
    """What the process of Ray's has to do.

    Attributes:
        assignment: what to carry out.
        number: its number among those of the command.
        attempt: how often it was begun before.
        checkout: its folder, which is the same on all nodes.
        folder: in it, for logs.
        variables: of the environment.
        cluster: what each run gets.
    """

    assignment: Assignment
    number: int
    attempt: int
    checkout: Path
    folder: Path
    variables: dict[str, str]
    cluster: ClusterConfig

    def environment(self) -> dict[str, str]:
        """That of the process on the node; it names the attempt, so that a lease of the former one counts no more."""
        job = f"{self.folder.name}_{self.number}"
        return os.environ | self.variables | {JOB: job, ATTEMPT: str(self.attempt)}


class Ending(NamedTuple):
    """What came of it.

    Attributes:
        code: exit code.
        host: where.
        words: why it ended, of its log.
    """

    code: int
    host: str
    words: str


def perform(errand: Errand) -> Ending:
    """Carry out an errand in a process of its own, whose output goes to its log.

    A KeyboardInterrupt, which is how Ray cancels a task, asks the process to stop and waits for its checkpoint.
    """
    if not errand.checkout.is_dir():
        return Ending(1, node_name(), f"error: {errand.checkout}: not on this node: give all nodes the same checkout")
    submission = Submission(errand.checkout / errand.folder)
    submission.folder.mkdir(parents=True, exist_ok=True)
    submission.write_task(errand.number, errand.assignment)
    # Of this node, whose Python may lie elsewhere.
    command = [sys.executable, "-m", "rc2l_bench.run.ray_task", str(errand.folder), str(errand.number)]
    with submission.log(errand.number).open("ab") as log, _interrupts() as asked:
        process = subprocess.Popen(
            ["bash", "-c", errand.cluster.script(command)], cwd=errand.checkout, env=errand.environment(),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=prepare_child(os.getpid()),
        )  # fmt: skip
        try:
            while process.poll() is None and not asked:
                time.sleep(POLL)
        finally:
            _end(process, errand.cluster.notice_seconds)
    return Ending(process.returncode, node_name(), submission.last_words(errand.number))


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect interrupts and raise one after the body: between fork and `try` it would leave a process behind."""
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


def _end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Leave nothing of a process and its group: ask it first, and kill what has not ended some seconds later."""
    if process.poll() is None:
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):  # it has left nobody behind
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@guarded
def main(folder: Path, number: int) -> None:
    """Carry out an assignment on this machine.

    Args:
        folder: with what was assigned.
        number: of the assignment in it.

    Raises:
        BenchError: this node has other sources, packages or data than the machine that assigned the run.
        PreemptedError: asked to stop.
    """
    assignment = Submission(folder).task(number)
    with listening():
        if int(os.environ[ATTEMPT]):
            await_former(assignment.run)
        try:
            code = carry_out(assignment, assignment.command)
        except PreemptedError as stopped:
            raise PreemptedError("", stopped.exit_code) from None  # the training has said the rest
    sys.exit(code if code >= 0 else 128 - code)


def await_former(run: Run) -> None:
    """Wait for the end of the former attempt, which may outlive its node by a moment."""
    begin = time.monotonic()
    while time.monotonic() - begin < PATIENCE:
        try:
            with run.lock():
                return
        except BusyError:
            time.sleep(POLL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
