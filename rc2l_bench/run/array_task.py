"""One task of an array job, on its node: `python -m rc2l_bench.run.array_task FOLDER`.

It makes sure that this node would compute what the submitting machine meant, runs the command of one cell, and puts
itself back into the queue when it was asked to stop before the end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rc2l_bench.console import guarded
from rc2l_bench.errors import BenchError, PreemptedError
from rc2l_bench.files import say
from rc2l_bench.run.array_jobs import provenance_of
from rc2l_bench.run.pipeline import run_program
from rc2l_bench.run.process_pool import KILLED
from rc2l_bench.run.signals import held_back, listening
from rc2l_bench.run.slurm import Place, ask_end, is_cancelled, requeue
from rc2l_bench.run.submissions import ArrayTask, Submission, TaskState


@guarded
def main(folder: Path) -> None:
    """Carry out the task that Slurm has given to this process.

    Args:
        folder: of the submission.

    Raises:
        BenchError: this node has other sources, packages or data than the machine that submitted the run.
        PreemptedError: asked to stop; the task is in the queue again, unless it was cancelled, or Slurm did not let it.
    """
    submission = Submission(folder)
    place = Place(int(os.environ["SLURM_ARRAY_JOB_ID"]), int(os.environ["SLURM_ARRAY_TASK_ID"]))
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))

    def note(state: Literal["running", "done", "stopped", "cancelled", "failed"], code: int = 0) -> None:
        known = TaskState(state=state, code=code, host=_node(), restarts=restarts)
        submission.write_state(place.task, known)

    note("running")
    with listening():
        try:
            code = _carry_out(submission.task(place.task))
        except PreemptedError as stopped:
            with held_back():  # Slurm ends what is put back into the queue
                cancelled = is_cancelled(place, restarts)
                note("cancelled" if cancelled else "stopped", stopped.exit_code)
                say("cancelled: submit it again, and it continues" if cancelled else _put_back(place))
            raise PreemptedError("", stopped.exit_code) from None  # the training has said the rest
        except BenchError as error:
            note("failed", error.exit_code)
            raise
    note("failed" if code else "done", code)
    sys.exit(code if code >= 0 else 128 - code)


def _carry_out(task: ArrayTask) -> int:
    say(f"{task.title}, on {_node()}")
    check_same(task.expected, provenance_of(task.module))
    code = run_program(launch(task))
    if code == -signal.SIGKILL:
        say(f"error: {KILLED}")
    if code == PreemptedError.CONTINUE:  # the signal reached the training alone
        raise PreemptedError("")
    return code


def launch(task: ArrayTask) -> list[str]:
    """The command of a task. On one node the first process starts the others; on several, torchrun does on each."""
    if task.nodes == 1:
        return [sys.executable, "-m", *task.module]
    address = f"{socket.gethostname()}:{_port(os.environ['SLURM_JOB_ID'])}"
    return [
        "srun", f"--ntasks={task.nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1",
        # Said again, because from Slurm 22.05 on srun does not take it over from the job that it is a part of.
        f"--cpus-per-task={os.environ['SLURM_CPUS_PER_TASK']}", sys.executable,
        "-m", "torch.distributed.run", f"--nnodes={task.nodes}", f"--nproc-per-node={task.processes // task.nodes}",
        "--rdzv-backend=c10d", f"--rdzv-endpoint={address}", f"--rdzv-id={os.environ['SLURM_JOB_ID']}",
        "-m", *task.module,
    ]  # fmt: skip


def _port(job: str) -> int:
    """Where the nodes of a job meet; jobs that share a node need different ones."""
    return 20_000 + int(job) % 10_000


def check_same(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Make sure that a run from here is the one that was submitted.

    Args:
        expected: provenance on the machine that submitted it.
        found: provenance here.

    Raises:
        BenchError: they differ; names in what.
    """
    if expected["fingerprint"] == found["fingerprint"]:
        return
    here = json.loads(json.dumps(found))  # as the other one was written
    changed = [_difference(name, part, here.get(name)) for name, part in expected.items() if part != here.get(name)]
    raise BenchError(
        f"{_node()}: differs from where this was submitted: {'; '.join(filter(None, changed))}: a run from here "
        "would not be the same; give the nodes the same checkout and packages, or submit it again"
    )


def _difference(name: str, expected: Any, found: Any) -> str:  # noqa: ANN401 - parts are of any kind
    if name != "versions":
        return "" if name == "fingerprint" else f"other {name}"
    changed = (package for package in expected if expected[package] != found.get(package))
    return ", ".join(f"{package} {found.get(package)} instead of {expected[package]}" for package in changed)


def _node() -> str:
    return os.environ.get("SLURMD_NODENAME", socket.gethostname())


def _put_back(place: Place) -> str:
    """Put a task into the queue again, and tell whether it is there: Slurm does so itself when it preempts."""
    try:
        requeue(place)
    except BenchError as error:
        if ask_end(place) != "PENDING":
            return f"not in the queue again: {error}"
    return f"in the queue again as {place}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
