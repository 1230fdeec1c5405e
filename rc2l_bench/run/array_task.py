"""One task of an array job, on its node: `python -m rc2l_bench.run.array_task FOLDER`.

It makes sure that this node would compute what the submitting machine meant, runs the command of one cell, and puts
itself back into the queue when it was asked to stop before the end.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Literal

from rc2l_bench.console import guarded
from rc2l_bench.errors import BenchError, PreemptedError
from rc2l_bench.files import say
from rc2l_bench.run.assignments import Assignment, carry_out, node_name
from rc2l_bench.run.signals import held_back, listening
from rc2l_bench.run.slurm import Place, ask_end, is_cancelled, requeue
from rc2l_bench.run.submissions import Submission, TaskState


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
        known = TaskState(state=state, code=code, host=node_name(), restarts=restarts)
        submission.write_state(place.task, known)

    note("running")
    with listening():
        try:
            task = submission.task(place.task)
            code = carry_out(task, launch(task))
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


def launch(task: Assignment) -> list[str]:
    """The command of a task. On one node the first process starts the others; on several, torchrun does on each."""
    if task.nodes == 1:
        return task.command
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
