"""Runs as array jobs of Slurm: which are submitted, and what has become of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from rc2l_bench.cluster import ClusterConfig
from rc2l_bench.errors import BenchError
from rc2l_bench.files import write_atomically
from rc2l_bench.run.assignments import TRIAL, Assignment, assign, find_outstanding, provenance_of
from rc2l_bench.run.far_runs import fetch_finished, is_finished
from rc2l_bench.run.pipeline import carry_out_data, cell_stages
from rc2l_bench.run.slurm import Place, Queued, ask_end, count_places, read_queue, submit
from rc2l_bench.run.store import STORE, Run
from rc2l_bench.run.submissions import (
    JOBS,
    MOST_TASKS,
    Submission,
    TaskState,
    find_submissions,
    new_submission,
)
from rc2l_bench.run.trial_request import has_diverged
from rc2l_bench.run.tuning import MethodStudy, waiting_trials, write_request

SCRIPT = "job.sh"
ENDINGS = {
    "TIMEOUT": "hit its time limit before it could write a checkpoint: give more hours or notice_seconds",
    "OUT_OF_MEMORY": "ran out of memory: give more memory_gb",
    "NODE_FAIL": "its node failed",
    "CANCELLED": "was cancelled",
    "PREEMPTED": "was preempted, and this cluster does not put jobs back into the queue",
}
"""What is said of Slurm's words for a task that could not speak for itself."""

Standing = Literal["waits", "runs", "done", "stopped", "failed"]


class Task(NamedTuple):
    """What has become of a task.

    Attributes:
        title: data set, split, method, seed.
        place: its number at Slurm.
        standing: in a word.
        where: node that it runs or ran on; empty before the first.
        restarts: how often it was put back into the queue.
        why: what it waits for, or why it failed.
        log: its output.
    """

    title: str
    place: Place
    standing: Standing
    where: str
    restarts: int
    why: str
    log: Path


class Sent(NamedTuple):
    """What became of a request.

    Attributes:
        code: exit code of a stage of the data that failed; else 0.
        jobs: numbers of the array jobs.
        tasks: that were submitted.
        known: that wait or run already.
        stored: that were finished and are handed out.
    """

    code: int = 0
    jobs: tuple[int, ...] = ()
    tasks: int = 0
    known: int = 0
    stored: int = 0


def submit_cells(items: Sequence[Mapping[str, str]], cluster: ClusterConfig, jobs: Path = JOBS) -> Sent:
    """Bring the data of cells up to date here, and submit those that are neither in the store nor in the queue.

    Args:
        items: the cells.
        cluster: what each run gets.
        jobs: where submissions are kept.

    Raises:
        BenchError: Slurm refuses; nothing of that array is left behind.
    """
    chains = [cell_stages(item) for item in items]
    if code := carry_out_data(chains):
        return Sent(code=code)
    wanted = [one.assignment for one in find_outstanding([chain[-1] for chain in chains], cluster)]
    return _submit_new(wanted, len(chains) - len(wanted), cluster, jobs)


def submit_trials(dataset: str, studies: Sequence[MethodStudy], cluster: ClusterConfig, jobs: Path = JOBS) -> Sent:
    """Submit the trials of `rc2l-bench tune` that are neither in the store nor in the queue.

    Args:
        dataset: that is tuned; its data have to be there.
        studies: of its methods; their numbers must not depend on one another's scores.
        cluster: what each trial gets.
        jobs: where submissions are kept.

    Raises:
        BenchError: Slurm refuses; nothing of that array is left behind.
    """
    requests = [write_request(dataset, *pair) for pair in waiting_trials(studies)]
    tasks = [(assign([TRIAL, str(request)], cluster), request.with_suffix(".json")) for request in requests]
    wanted = [task for task, answer in tasks if not _is_told(task.expected["fingerprint"], answer)]
    return _submit_new(wanted, len(tasks) - len(wanted), cluster, jobs)


def _is_told(fingerprint: str, answer: Path) -> bool:
    return has_diverged(answer, fingerprint) or fetch_finished(Run(STORE, fingerprint))


def _submit_new(wanted: Sequence[Assignment], stored: int, cluster: ClusterConfig, jobs: Path) -> Sent:
    """Submit what does not wait or run already."""
    queued = set(_queued(jobs)) if wanted else set()
    fresh = [task for task in wanted if task.expected["fingerprint"] not in queued]
    return Sent(
        jobs=tuple(_submit_all(fresh, cluster, jobs)), tasks=len(fresh), known=len(wanted) - len(fresh), stored=stored
    )


def _queued(jobs: Path) -> Iterator[str]:
    """Fingerprints of the runs that wait or run."""
    queue = read_queue()
    for submission in find_submissions(jobs):
        for place in submission.places():
            if place in queue:
                yield submission.task(place.task).expected["fingerprint"]


def _submit_all(tasks: Sequence[Assignment], cluster: ClusterConfig, jobs: Path) -> Iterator[int]:
    """Submit as many arrays as are needed, each no longer than the cluster takes."""
    left, most = iter(tasks), min(count_places(), MOST_TASKS) if tasks else 0
    while some := list(islice(left, most)):
        with new_submission(some, jobs) as submission:
            script = submission.folder / SCRIPT
            command = [sys.executable, "-m", "rc2l_bench.run.array_task", str(submission.folder)]
            write_atomically(script, cluster.script(command).encode())
            number = submit(script, submission.folder, len(some), cluster)
            submission.write_number(number, len(some))
        yield number


def list_tasks(jobs: Path = JOBS) -> list[Task]:
    """What has become of all runs that were submitted: of each the last time that it was, in the order of submission.

    Raises:
        BenchError: Slurm does not answer.
    """
    submissions = find_submissions(jobs)
    queue = read_queue() if submissions else {}
    found: dict[str, Task] = {}
    for submission in submissions:
        for place in submission.places():
            task = _look(submission, place, queue)
            found.pop(task.title, None)
            found[task.title] = task
    return list(found.values())


def _look(submission: Submission, place: Place, queue: Mapping[Place, Queued]) -> Task:
    task, state = submission.task(place.task), submission.state(place.task)
    where, restarts = (state.host, state.restarts + (state.state == "stopped")) if state else ("", 0)
    standing, why = _judge(submission, place, state, queue.get(place))
    if standing in ("failed", "stopped") and _is_mended(task):
        standing, why = "done", ""
    return Task(task.title, place, standing, where, restarts, why, submission.log(place.task))


def _is_mended(task: Assignment) -> bool:
    """Whether what failed has been carried out elsewhere meanwhile, as it was submitted or as it would be now."""
    with contextlib.suppress(BenchError, OSError):  # a store out of reach, a method that is edited: then it has failed
        return _is_there(task, task.expected["fingerprint"]) or _is_there(
            task, provenance_of(task.module)["fingerprint"]
        )
    return False


def _is_there(task: Assignment, fingerprint: str) -> bool:
    diverged = task.module[0] == TRIAL and has_diverged(Path(task.module[1]).with_suffix(".json"), fingerprint)
    return diverged or is_finished(Run(STORE, fingerprint))


def _judge(
    submission: Submission, place: Place, state: TaskState | None, queued: Queued | None
) -> tuple[Standing, str]:
    """The standing of a task, and why: what it says of its own end counts first, then the queue."""
    own = state.state if state else "running"
    if own == "done":
        return "done", ""
    if queued is not None and queued.state != "COMPLETING":
        return ("waits", queued.where) if queued.state == "PENDING" else ("runs", "")
    if own == "cancelled":
        return "stopped", _tell_stopped("CANCELLED")
    if own == "stopped":
        return ("waits", "goes back into the queue") if queued else ("stopped", _tell_stopped(ask_end(place)))
    words = submission.last_words(place.task)
    if state is not None and own == "failed":
        return "failed", words or f"exit code {state.code}"
    if queued is not None:
        return "runs", ""
    ended = ask_end(place)
    return "failed", ENDINGS.get(ended) or words or f"ended without a word{f' ({ended})' if ended else ''}"


def _tell_stopped(ended: str) -> str:
    """Why a task that would go on is no longer in the queue."""
    return f"{ENDINGS.get(ended, 'was not put back into the queue')}: submit again, it continues"
