"""What the engine asks and refuses; on a real Ray: test_ray_nodes."""

from __future__ import annotations

import json
import socket
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_data
from commands_data import call, refused

from rc2l_bench.cluster import ClusterConfig
from rc2l_bench.errors import UsageError
from rc2l_bench.run.assignments import Assignment
from rc2l_bench.run.ray_engine import AGAIN, SETTINGS, RayEngine, check_request, open_ray
from rc2l_bench.schema import read_yaml

exceptions = pytest.importorskip("ray.exceptions", reason="Ray is an extra: pip install 'rc2l-bench[ray]'")

PLAIN = read_yaml(tiny_data.ROOT / "cluster.yaml")
ON_RAY = ("run", "--method", "supervised", "--split", "1_4", "--dataset", "tiny", "--on", "ray")


def plan(**changes: Any) -> ClusterConfig:
    return ClusterConfig.model_validate_json(json.dumps(PLAIN | changes))


def test_one_node_has_to_have_all_that_a_run_gets():
    nodes = [{"CPU": 8.0, "memory": 1e9}, {"CPU": 2.0, "GPU": 1.0, "memory": 8e9}]
    check_request(nodes, plan(cpus=2, gpus=1, memory_gb=8))
    with pytest.raises(UsageError, match=r"at most there are 8 CPUs, 1 GPUs and 8 GB of memory"):
        check_request(nodes, plan(cpus=8, gpus=1))


def test_ray_gives_a_run_one_node():
    with pytest.raises(UsageError, match=r"nodes: Ray gives a run one"), open_ray(plan(nodes=2, processes=2)):
        pytest.fail("entered")


@pytest.fixture
def here(checkout, monkeypatch) -> None:
    monkeypatch.chdir(checkout)
    tiny_data.write_yaml(checkout / "cluster.yaml", PLAIN)
    monkeypatch.setattr("rc2l_bench.data.datasets.registry.names", lambda: ["tiny"])
    for name in SETTINGS:
        monkeypatch.setenv(name, "0")  # so that they are as before when the test is over


def test_without_ray_one_is_told_how_to_get_it(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refused(*ON_RAY) == "error: Ray is not installed: pip install 'rc2l-bench[ray]', or leave out --on ray"


def test_a_cluster_that_does_not_answer_is_told_of_at_once(here):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        code, text = call(*ON_RAY, RAY_ADDRESS=address)
    assert code == 1
    assert text.startswith(f"error: RAY_ADDRESS: {address}: no answer (")
    assert text.count("\n") == 1


def test_another_program_at_the_address_is_not_taken_for_ray(here):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"

        def answer() -> None:
            client = other.accept()[0]
            with client:
                client.recv(100)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        code, text = call(*ON_RAY, RAY_ADDRESS=address)
        thread.join()
    assert code == 1
    assert text.startswith(f"error: RAY_ADDRESS: {address}: what answers there is not Ray: is the cluster up?")


def test_the_address_of_a_proxy_is_refused(here, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert "give the address of the head itself" in refused(*ON_RAY)


class Gone:
    """A Ray whose nodes die as soon as they have something to do."""

    exceptions = exceptions

    def __init__(self) -> None:
        self.attempts: list[int] = []

    def remote(self, **_: object) -> Any:
        return lambda _: self

    def options(self, **_: object) -> Any:
        return SimpleNamespace(remote=lambda errand: self.attempts.append(errand.attempt) or len(self.attempts))

    def wait(self, refs: list[int], **_: object) -> tuple[list[int], list[int]]:
        return refs, []

    def get(self, _: int) -> None:
        raise exceptions.NodeDiedError("")


def test_a_run_whose_nodes_always_die_ends_some_day(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    gone, task = Gone(), Assignment(title="t", module=[], expected={}, nodes=1, processes=1)
    assert list(RayEngine(gone, plan(), 1).run([task])) == [(0, 75)]
    assert gone.attempts == list(range(AGAIN + 1))
    [last] = capsys.readouterr().err.splitlines()[-1:]
    assert last.startswith("error: t: failed: its node or its process there is gone (.rc2l/ray/")


def test_a_run_that_is_finished_on_a_disk_of_its_node_alone_does_not_count(here, monkeypatch, capsys):
    monkeypatch.setattr("rc2l_bench.run.ray_engine.carry_out_data", lambda _: 0)
    monkeypatch.setattr(RayEngine, "run", lambda *_: iter([(0, 0)]))
    item = {"dataset": "tiny", "split": "1_4", "method": "baselines/supervised", "seed": "0"}
    assert RayEngine(Gone(), plan(), 1).carry_out_cells([item]) == [1]
    assert (
        "seed 0: is finished, and cannot be seen from here: let the nodes share this folder" in capsys.readouterr().err
    )
