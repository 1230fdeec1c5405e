"""Runs as tasks of Ray: given to a cluster, and given again where a node goes away.

Ray is an extra, and is imported when it is wanted. Its own retries are not used: they tell nobody which attempt it is.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rc2l_bench.cluster import FILE, ClusterConfig
from rc2l_bench.errors import BenchError, PreemptedError, UsageError, one_line
from rc2l_bench.files import say
from rc2l_bench.run.assignments import Assignment, assign, find_outstanding
from rc2l_bench.run.pipeline import carry_out_data, cell_stages
from rc2l_bench.run.ray_task import PASSED_ON, Ending, Errand, perform
from rc2l_bench.run.signals import GO_ON, relaying
from rc2l_bench.run.submissions import NOW
from rc2l_bench.tuning import BUSY

ADDRESS = "RAY_ADDRESS"
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_DEDUP_LOGS": "1", "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}  # fmt: skip
"""Ray tells nobody about its use, gives trainings the rank of other processes, and prints no messages of its nodes."""
LOGS = Path(".rc2l/ray")
AGAIN = 20
"""How often a run begins again whose node went away."""
POLL = 1.0
"""Seconds between two looks at whether this process was asked to stop."""
PATIENCE = 5.0
"""Seconds for a cluster to answer; where there is none, Ray itself would try for minutes."""
PREFACE, SETTINGS_FRAME = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"), b"\x04"
"""What a client says first, with settings that change nothing, and the kind of what a server answers first."""
ADVICE = (
    "is the cluster up? `ray start --head` on its first node says its address; without the variable a cluster on this "
    "machine is used"
)
KILL = 10.0
"""Seconds beyond `notice_seconds` for a node to say that a training has stopped."""
UNSEEN = (
    "is finished, and cannot be seen from here: let the nodes share this folder, or set RC2L_BENCH_STORE to a place "
    "that all of them reach"
)


@contextmanager
def open_ray(cluster: ClusterConfig) -> Iterator[RayEngine]:
    """Join the cluster of RAY_ADDRESS, or start one on this machine for as long as the body runs.

    Args:
        cluster: what each run gets.

    Raises:
        UsageError: Ray is not installed, or what each run gets is more than any node has.
        BenchError: the cluster does not answer, or is of another version.
    """
    if cluster.nodes > 1:
        raise UsageError(f"{FILE}: nodes: Ray gives a run one node: set it to 1, or use --on slurm")
    address = os.environ.get(ADDRESS, "").strip()
    ray = _import()
    _require_answer(address)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise BenchError(f"{ADDRESS}: {address or 'a cluster on this machine'}: {one_line(error)[:300]}") from None
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        check_request(nodes, cluster)
        yield RayEngine(ray, cluster, len(nodes))
    finally:
        ray.shutdown()


def _import() -> Any:  # noqa: ANN401 - a module
    os.environ.update(SETTINGS)
    try:
        import ray
    except ImportError:
        raise UsageError("Ray is not installed: pip install 'rc2l-bench[ray]', or leave out --on ray") from None
    return ray


def _require_answer(address: str) -> None:
    """Make sure that something answers at an address, and in the language of Ray's servers, HTTP/2 (RFC 9113, 3.4)."""
    if address.startswith("ray://"):
        raise UsageError(f"{ADDRESS}: {address}: give the address of the head itself, HOST:6379, on one of the nodes")
    found = re.fullmatch(r"(.+):(\d+)", address)
    if found is None or os.environ.get("RAY_USE_TLS", "0") == "1":
        return
    try:
        with socket.create_connection((found[1].strip("[]"), int(found[2])), PATIENCE) as server:
            server.sendall(PREFACE)
            answer = server.recv(9)
    except (OSError, OverflowError) as error:
        raise BenchError(f"{ADDRESS}: {address}: no answer ({one_line(error)}): {ADVICE}") from None
    if answer[3:4] != SETTINGS_FRAME:
        raise BenchError(f"{ADDRESS}: {address}: what answers there is not Ray: {ADVICE}")


def check_request(nodes: Sequence[Mapping[str, float]], cluster: ClusterConfig) -> None:
    """Make sure that a run can ever begin.

    Args:
        nodes: what each node of the cluster has.
        cluster: what each run gets.

    Raises:
        UsageError: no node has as much.
    """
    wanted = _resources(cluster)
    if any(all(node.get(name, 0) >= count for name, count in wanted.items()) for node in nodes):
        return
    most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in wanted}
    raise UsageError(
        f"{FILE}: a run gets {_describe(wanted)}, and no node of the Ray cluster has as much; at most there are "
        f"{_describe(most)}: ask for less"
    )


def _resources(cluster: ClusterConfig) -> dict[str, float]:
    return {"CPU": cluster.cpus, "GPU": cluster.gpus, "memory": cluster.memory_gb * 1e9}


def _describe(resources: Mapping[str, float]) -> str:
    return f"{resources['CPU']:g} CPUs, {resources['GPU']:g} GPUs and {resources['memory'] / 1e9:.3g} GB of memory"


class RayEngine:
    """Carries out runs on a cluster that this process has joined."""

    def __init__(self, ray: Any, cluster: ClusterConfig, nodes: int) -> None:  # noqa: ANN401 - a module
        """Prepare the task.

        Args:
            ray: the module, connected.
            cluster: what each run gets.
            nodes: how many there are.
        """
        self._ray, self._cluster, self._nodes = ray, cluster, nodes
        wanted = _resources(cluster)
        self._perform = ray.remote(
            num_cpus=wanted["CPU"], num_gpus=wanted["GPU"], memory=wanted["memory"], max_retries=0
        )(perform)

    def carry_out_cells(self, items: Sequence[Mapping[str, str]]) -> list[int]:
        """Bring cells up to date: the stages of the data here, then the trainings that are not in the store.

        Args:
            items: the cells.

        Returns:
            The exit code of every training; that of a stage of the data alone, where one fails.
        """
        chains = [cell_stages(item) for item in items]
        if code := carry_out_data(chains):
            return [code]
        left = find_outstanding([chain[-1] for chain in chains], self._cluster)
        codes = [0] * len(left)
        for index, codes[index] in self.run([one.assignment for one in left]):
            try:
                if codes[index] == 0 and not left[index].hand_out():
                    raise BenchError(f"{left[index].assignment.title}: {UNSEEN}")
            except BenchError as error:  # the others go on
                codes[index] = error.exit_code
                say(f"error: {error}")
        return codes

    def run_modules(self, calls: Sequence[Sequence[str]]) -> Iterator[tuple[int, int]]:
        """Run modules as `process_pool.run_modules` does, on the cluster."""
        yield from self.run([assign(call, self._cluster) for call in calls])

    def run(self, assignments: Sequence[Assignment]) -> Iterator[tuple[int, int]]:
        """Carry out assignments; one whose node goes away is begun again, where its checkpoint is.

        Yields:
            Index and exit code of each, as they end.

        Raises:
            PreemptedError: this process was asked to stop; the trainings have been, too, and have ended.
        """
        waiting, running = deque((index, 0) for index in range(len(assignments))), dict[Any, tuple[int, int]]()
        most = self._cluster.at_once or len(assignments)
        errands = self._write_errands(assignments)
        with relaying() as relay:
            try:
                while running or waiting:
                    while waiting and len(running) < most:
                        index, attempt = waiting.popleft()
                        running[self._start(errands[index]._replace(attempt=attempt))] = index, attempt
                    for ref in self._ray.wait(list(running), timeout=POLL)[0]:
                        index, attempt = running.pop(ref)
                        ending = self._read(ref)
                        if ending.code == PreemptedError.CONTINUE and attempt < AGAIN:
                            say(f"{assignments[index].title}: {ending.words}: begins again at its checkpoint")
                            waiting.append((index, attempt + 1))
                            continue
                        self._tell(errands[index], ending)
                        yield index, ending.code
                    if relay.asked:
                        raise PreemptedError(f"stopped; {GO_ON}")
            except KeyboardInterrupt:
                self._stop(running)
                say(f"interrupted; {GO_ON}")
                raise
            finally:
                self._stop(running)

    def _write_errands(self, assignments: Sequence[Assignment]) -> list[Errand]:
        if not assignments:
            return []
        LOGS.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{time.strftime(NOW)}-", dir=LOGS))
        variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        say(
            f"{len(assignments)} runs on {self._nodes} nodes of Ray; logs in {folder}; `rc2l-bench watch --every-host` "
            "shows them"
        )
        return [
            Errand(assignment, number, 0, Path.cwd(), folder, variables, self._cluster)
            for number, assignment in enumerate(assignments)
        ]

    def _start(self, errand: Errand) -> Any:  # noqa: ANN401 - Ray's
        return self._perform.options(name=errand.assignment.title).remote(errand)

    def _read(self, ref: Any) -> Ending:  # noqa: ANN401 - Ray's
        """What came of a task; the code for "continue" where its node took it away."""
        errors = self._ray.exceptions
        try:
            ending: Ending = self._ray.get(ref)
        except errors.OutOfMemoryError:
            return Ending(1, "", "the memory of its node ran out: give more memory_gb, so that fewer runs share a node")
        except (errors.WorkerCrashedError, errors.LocalRayletDiedError, errors.NodeDiedError, errors.ObjectLostError):
            return Ending(PreemptedError.CONTINUE, "", "its node or its process there is gone")
        except errors.TaskCancelledError:
            return Ending(1, "", "was cancelled")
        except errors.RayTaskError as error:
            return Ending(1, "", one_line(error.cause)[:300])
        except errors.RayError as error:
            return Ending(1, "", one_line(error)[:300])
        return ending

    def _tell(self, errand: Errand, ending: Ending) -> None:
        where = f" on {ending.host}" if ending.host else ""
        if ending.code == 0:
            say(f"{errand.assignment.title}: done{where}")
        elif ending.code != BUSY:
            log = errand.folder / f"{errand.number}.log"
            words = ending.words.removeprefix("error: ") or f"exit code {ending.code}"
            say(f"error: {errand.assignment.title}: failed{where}: {words} ({log})")

    def _stop(self, running: dict[Any, tuple[int, int]]) -> None:
        """Ask trainings to stop, wait for their checkpoints, and forget them."""
        if not running:
            return
        say(f"{len(running)} runs are asked to stop, and write their checkpoints")
        for ref in running:
            self._ray.cancel(ref)
        patience = self._cluster.notice_seconds + KILL
        _, slow = self._ray.wait(list(running), num_returns=len(running), timeout=patience)
        for ref in slow:
            self._ray.cancel(ref, force=True)
        running.clear()
