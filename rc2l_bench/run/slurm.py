"""Slurm through its own commands: what is asked of them, and what they say. Nothing is installed on a cluster."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from rc2l_bench.cluster import FILE, ClusterConfig
from rc2l_bench.errors import BenchError, UsageError, suggest

COMMANDS = ("sbatch", "squeue", "scontrol")
PATIENCE = 120.0
"""Seconds that a command may take; a controller with a hundred thousand jobs takes some."""
DEFAULT_ARRAY_SIZE = 1001
"""Of Slurm, where it does not say: a task's number has to be below."""
NEVER_BEGAN = r"ArrayTaskId=(?:4294967294|\S*[-,]\S*) "
"""How Slurm shows, as one, the tasks of an array that ended before they began."""


class Place(NamedTuple):
    """A task of an array job.

    Attributes:
        job: number of the array.
        task: number in it.
    """

    job: int
    task: int

    def __str__(self) -> str:
        return f"{self.job}_{self.task}"


class Queued(NamedTuple):
    """What the queue says of a task.

    Attributes:
        state: Slurm's word, `PENDING`.
        where: nodes, or the reason why it waits.
    """

    state: str
    where: str


def require_slurm() -> None:
    """Make sure that this is a machine on which jobs are submitted.

    Raises:
        UsageError: a command of Slurm is not on PATH.
    """
    for command in COMMANDS:
        if shutil.which(command) is None:
            raise UsageError(
                f"{command}: not on PATH: type this where jobs are submitted to Slurm, a login node for instance, or "
                "leave out --on slurm"
            )


def check_partition(cluster: ClusterConfig) -> None:
    """Make sure, before anything takes time, that the partitions of cluster.yaml are there.

    Raises:
        UsageError: one is not.
        BenchError: Slurm does not answer.
    """
    known = re.findall(r"^PartitionName=(\S+)", ask("scontrol", "show", "partition", "--oneliner"), re.MULTILINE)
    for name in filter(None, cluster.partition.split(",")):
        if name not in known:
            raise UsageError(f"{FILE}: partition: the cluster has no '{name}': {suggest(name, known)}")


def count_places() -> int:
    """How many tasks an array may have here; see `check_partition` for what is raised."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    return int(found[1]) if found else DEFAULT_ARRAY_SIZE


def submit(script: Path, logs: Path, count: int, cluster: ClusterConfig) -> int:
    """Submit a script as an array.

    Args:
        script: the job script.
        logs: folder of the tasks' logs, `<task>.log`; relative, since Slurm reads signs of its own into a path.
        count: of tasks.
        cluster: what each of them gets.

    Returns:
        The number of the array job.

    Raises:
        BenchError: Slurm refuses it; what it says is quoted.
    """
    answer = ask("sbatch", *_words(logs, count, cluster), str(script))
    found = re.fullmatch(r"(\d+)(;.*)?", answer.strip().rpartition("\n")[2])
    if found is None:
        raise BenchError(f"sbatch: expected the number of a job, got {answer.strip()[:100]!r}")
    return int(found[1])


def _words(logs: Path, count: int, cluster: ClusterConfig) -> list[str]:
    """Options of sbatch. `--requeue` is for nodes that fail and for preemption; the signal, for the end of the time."""
    at_once = f"%{cluster.at_once}" if cluster.at_once else ""
    words = [
        "--parsable", "--job-name=rc2l-bench", f"--array=0-{count - 1}{at_once}", "--requeue", "--open-mode=append",
        f"--output={logs}/%a.log", f"--signal=B:TERM@{cluster.notice_seconds}", f"--nodes={cluster.nodes}",
        f"--time={math.ceil(cluster.hours * 60)}", f"--mem={math.ceil(cluster.memory_gb * 1000)}M",
        "--ntasks-per-node=1", f"--cpus-per-task={cluster.cpus}",
    ]  # fmt: skip
    words += [f"--partition={cluster.partition}"] if cluster.partition else []
    words += [f"--account={cluster.account}"] if cluster.account else []
    words += [f"--gres=gpu:{cluster.gpus}"] if cluster.gpus else []
    return [*words, *cluster.options]


def read_queue() -> dict[Place, Queued]:
    """Ask for all tasks of this user's arrays that wait or run.

    Raises:
        BenchError: Slurm does not answer.
    """
    found = {}
    for line in ask("squeue", "--me", "--array", "--noheader", "--format=%F %K %T %R").splitlines():
        job, task, state, *where = line.split()
        if task.isdecimal():  # other jobs are no arrays
            found[Place(int(job), int(task))] = Queued(state, " ".join(where).strip("()"))
    return found


def ask_end(place: Place) -> str:
    """What Slurm knows of a task that is no longer in the queue, `TIMEOUT`; empty some minutes after its end."""
    return _ask_state(str(place)) or _ask_state(str(place.job), NEVER_BEGAN)


def _ask_state(name: str, which: str = "") -> str:
    found = re.search(rf"{which}.*\bJobState=(\S+)", _show(name))
    return found[1] if found else ""


def is_cancelled(place: Place, restarts: int) -> bool:
    """Whether somebody has ended a task for good, asked from inside of it after a signal.

    Slurm says COMPLETING of every task that it ends. What it preempts it has put back, which counts as a restart, or it
    says when that was; and for a limit it gives a reason.

    Args:
        place: the task.
        restarts: how often it had been put back when it began.
    """
    found = dict(re.findall(r"\b(JobState|Reason|Restarts|PreemptTime)=(\S+)", _show(str(place))))
    ended = found.get("JobState") in ("COMPLETING", "CANCELLED") and found.get("Restarts") == str(restarts)
    return ended and found.get("Reason") == found.get("PreemptTime", "None") == "None"


def _show(name: str) -> str:
    """Everything about a job, on one line for each of its tasks; empty where Slurm does not know it (any more)."""
    try:
        return ask("scontrol", "show", "job", "--oneliner", name)
    except BenchError:
        return ""


def requeue(place: Place) -> None:
    """Put a task back into the queue, from inside of it; Slurm ends it then.

    Raises:
        BenchError: Slurm refuses, because it has done so itself or because the user may not.
    """
    ask("scontrol", "requeue", str(place))


def ask(*command: str) -> str:
    """Run one of Slurm's commands.

    Returns:
        What it prints.

    Raises:
        BenchError: it fails, in its own words, or takes longer than `PATIENCE`.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise BenchError(
            f"{command[0]}: no answer in {PATIENCE:.0f} seconds: is the cluster's controller up?"
        ) from None
    if done.returncode:
        raise BenchError(f"{command[0]}: {_words_of(command[0], done.stderr) or f'exit code {done.returncode}'}")
    return done.stdout


def _words_of(command: str, text: str) -> str:
    lines = (line.removeprefix(f"{command}: ").removeprefix("error: ").strip() for line in text.splitlines())
    return "; ".join(dict.fromkeys(filter(None, lines)))[:300]
