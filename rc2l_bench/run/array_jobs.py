"""Runs as array jobs of Slurm: which are submitted, and what has become of them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rc2l_bench.cluster import ClusterConfig
from rc2l_bench.files import write_atomically
from rc2l_bench.run.cell import open_cell
from rc2l_bench.run.far_runs import fetch_finished
from rc2l_bench.run.pipeline import Stage, carry_out_data, cell_stages
from rc2l_bench.run.slurm import Place, Queued, ask_end, count_places, read_queue, submit
from rc2l_bench.run.store import STORE, Run
from rc2l_bench.run.submissions import JOBS, ArrayTask, Submission, find_submissions, new_submission
from rc2l_bench.variants import method_of

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
    wanted, stored = [], 0
    for training in (chain[-1] for chain in chains):
        if training.fresh():
            stored += 1
            continue
        task = _make_task(training.module, cluster)
        if _hand_out(training, task.expected["fingerprint"]):
            stored += 1
        else:
            wanted.append(task)
    queued = set(_queued(jobs)) if wanted else set()
    fresh = [task for task in wanted if task.expected["fingerprint"] not in queued]
    return Sent(
        jobs=tuple(_submit_all(fresh, cluster, jobs)), tasks=len(fresh), known=len(wanted) - len(fresh), stored=stored
    )


def _make_task(module: Sequence[str], cluster: ClusterConfig) -> ArrayTask:
    expected = provenance_of(module)
    cell = expected["cell"]
    title = f"{cell['dataset']} {cell['split']} {cell['method']} seed {cell['seed']}"
    return ArrayTask(
        title=title, module=list(module), expected=expected, nodes=cluster.nodes, processes=cluster.processes
    )


def provenance_of(module: Sequence[str]) -> dict[str, Any]:
    """Name the run that the stage `train` would carry out in this place, with these sources and packages.

    Args:
        module: `pipelines.train` and its arguments.
    """
    _, dataset, split, method, seed, shards, plan, _ = module
    return open_cell(dataset, split, method_of(method), int(seed), Path(shards), Path(plan)).provenance()


def _hand_out(training: Stage, fingerprint: str) -> bool:
    """Copy a finished run to where it is wanted; tell whether there is one, here or on another machine."""
    run = Run(STORE, fingerprint)
    if not fetch_finished(run):
        return False
    inputs = training.inputs()
    with run.lock():
        run.materialise(training.outs[0])
    training.record(inputs)
    return True


def _queued(jobs: Path) -> Iterator[str]:
    """Fingerprints of the runs that wait or run."""
    queue = read_queue()
    for submission in find_submissions(jobs):
        for place in submission.places():
            if place in queue:
                yield submission.task(place.task).expected["fingerprint"]


def _submit_all(tasks: Sequence[ArrayTask], cluster: ClusterConfig, jobs: Path) -> Iterator[int]:
    """Submit as many arrays as are needed, each no longer than the cluster takes."""
    left, most = iter(tasks), count_places() if tasks else 0
    while some := list(islice(left, most)):
        with new_submission(some, jobs) as submission:
            script = submission.folder / SCRIPT
            write_atomically(script, _script(submission.folder, cluster).encode())
            number = submit(script, submission.folder, len(some), cluster)
            submission.write_number(number, len(some))
        yield number


def _script(folder: Path, cluster: ClusterConfig) -> str:
    """What runs on a node: the user's own lines, and the task in the place of the shell, which gets its signals."""
    command = shlex.join([sys.executable, "-m", "rc2l_bench.run.array_task", str(folder)])
    return "\n".join(["#!/bin/bash", "set -e", *cluster.setup, f"exec {command}", ""])


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
    title, state = submission.task(place.task).title, submission.state(place.task)
    where, restarts = (state.host, state.restarts) if state else ("", 0)
    standing, why = _judge(submission, place, queue.get(place))
    return Task(title, place, standing, where, restarts, why, submission.log(place.task))


def _judge(submission: Submission, place: Place, queued: Queued | None) -> tuple[Standing, str]:
    """The standing of a task, and why."""
    state = submission.state(place.task)
    if state is not None and state.state == "done":  # the queue may show it some seconds longer
        return "done", ""
    if queued is not None:
        return ("waits", queued.where) if queued.state == "PENDING" else ("runs", "")
    if state is not None and state.state == "stopped":
        return "stopped", "was not put back into the queue: submit again, it continues"
    words = submission.last_words(place.task)
    if state is not None and state.state == "failed":
        return "failed", words or f"exit code {state.code}"
    ended = ask_end(place)
    return "failed", ENDINGS.get(ended) or words or f"ended without a word{f' ({ended})' if ended else ''}"
