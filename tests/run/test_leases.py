from __future__ import annotations

import os
import time

import pytest
from running_data import ended

from rc2l_bench.errors import BenchError, BusyError
from rc2l_bench.run import leases
from rc2l_bench.run.far_store import FolderStore
from rc2l_bench.run.leases import EXPIRES, describe_holder, holding
from rc2l_bench.run.owners import ATTEMPT, JOB, Owner, this_process

ELSEWHERE = {"host": "n7", "place": "0" * 8, "pid": 1}


@pytest.fixture
def store(tmp_path) -> FolderStore:
    return FolderStore(tmp_path)


def raise_(error: Exception) -> bool:
    raise error


def leave(store: FolderStore, age: float = 0.0, name: str = "lease-000001.json", **changes: object) -> None:
    """A lease that another process holds, without a sign of life for some time."""
    owner = Owner.model_validate(this_process().model_dump() | changes)
    store.write(f"f/{name}", owner.model_dump_json().encode())
    then = time.time() - age
    os.utime(store.root / "f" / name, (then, then))


def test_a_lease_says_who_holds_it_and_is_given_back(store):
    with holding(store, "f", "the run"):
        assert describe_holder(store, "f") == this_process().describe()
    assert store.list("f") == {}


def test_a_second_process_is_told_who_holds_it_and_since_when(store):
    leave(store, 100.0, job="77_4", **ELSEWHERE)
    said = r"another process is on this run \(the run, n7, process 1, job 77_4, seen 1\d\d s ago\): wait for it"
    with pytest.raises(BusyError, match=said), holding(store, "f", "the run"):
        pytest.fail("entered")
    assert list(store.list("f")) == ["lease-000001.json"]


def test_a_lease_expires_when_its_holder_gives_no_sign_of_life(store):
    leave(store, EXPIRES + 5, **ELSEWHERE)
    with holding(store, "f", "the run"):
        assert list(store.list("f")) == ["lease-000002.json"]


def test_clocks_of_hosts_do_not_count(store, monkeypatch):
    leave(store, **ELSEWHERE)
    monkeypatch.setattr(time, "time", lambda: 1e12)
    with pytest.raises(BusyError), holding(store, "f", "the run"):
        pytest.fail("entered")


def test_a_dead_process_of_this_machine_holds_nothing(store):
    leave(store, pid=ended())
    with holding(store, "f", "the run"):
        assert list(store.list("f")) == ["lease-000002.json"]


def test_a_number_that_was_given_to_another_process_is_not_the_holder(store):
    leave(store, born=1.0)
    with holding(store, "f", "the run"):
        assert list(store.list("f")) == ["lease-000002.json"]


@pytest.mark.parametrize(("attempt", "taken"), [("1", False), ("2", True)])
def test_a_job_that_was_started_again_succeeds_itself(store, monkeypatch, attempt, taken):
    leave(store, job="77_4", attempt=1, **ELSEWHERE)
    for name, value in {"ARRAY_JOB_ID": "77", "ARRAY_TASK_ID": "4", "JOB_ID": "79", "RESTART_COUNT": attempt}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    try:
        with holding(store, "f", "the run"):
            assert taken
    except BusyError:
        assert not taken


@pytest.mark.parametrize(("attempt", "taken"), [("1", False), ("2", True)])
def test_an_attempt_succeeds_the_one_before_it(store, monkeypatch, attempt, taken):
    leave(store, job="x_3", attempt=1, **ELSEWHERE)
    monkeypatch.setenv("SLURM_JOB_ID", "78")  # a cluster may run inside of a job
    monkeypatch.setenv(JOB, "x_3")
    monkeypatch.setenv(ATTEMPT, attempt)
    try:
        with holding(store, "f", "the run"):
            assert taken
    except BusyError:
        assert not taken


def test_another_job_waits(store, monkeypatch):
    leave(store, job="77_4", attempt=1, **ELSEWHERE)
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    with pytest.raises(BusyError), holding(store, "f", "the run"):
        pytest.fail("entered")


@pytest.mark.parametrize("age", [0.0, EXPIRES + 5])
def test_a_damaged_lease_counts_by_its_age(store, age):
    store.write("f/lease-000001.json", b"{")
    then = time.time() - age
    os.utime(store.root / "f/lease-000001.json", (then, then))
    if age:
        with holding(store, "f", "the run"):
            return
    with pytest.raises(BusyError, match="a process that did not say who it is"), holding(store, "f", "the run"):
        pytest.fail("entered")


def test_of_two_that_find_the_same_dead_holder_one_succeeds_it(store, monkeypatch):
    leave(store, pid=ended())
    create = FolderStore.create

    def late(self: FolderStore, path: str, data: bytes) -> bool:
        assert create(self, path, b"somebody was faster")
        return create(self, path, data)

    monkeypatch.setattr(FolderStore, "create", late)
    with pytest.raises(BusyError, match="since a moment"), holding(store, "f", "the run"):
        pytest.fail("entered")
    assert store.read("f/lease-000002.json") == b"somebody was faster"


def test_the_holder_gives_signs_of_life(store, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.01)
    with holding(store, "f", "the run"):
        path = store.root / "f/lease-000001.json"
        os.utime(path, (1.0, 1.0))
        end = time.monotonic() + 60
        while path.stat().st_mtime == 1.0 and time.monotonic() < end:
            time.sleep(0.01)
        assert path.stat().st_mtime > 1.0


def test_a_holder_that_was_taken_for_dead_is_told_and_removes_its_own_lease_only(store, monkeypatch, capsys):
    monkeypatch.setattr(leases, "BEAT", 0.01)
    with holding(store, "f", "the run"):
        leave(store, name="lease-000002.json", **ELSEWHERE)
        while "took this one for dead" not in (said := capsys.readouterr().err):
            time.sleep(0.01)
    assert said.count("\n") == 1
    assert list(store.list("f")) == ["lease-000002.json"]


@pytest.mark.parametrize("answer", [lambda: False, lambda: raise_(BenchError("500"))])
def test_an_answer_that_was_lost_does_not_lock_a_process_out(store, monkeypatch, answer):
    create = FolderStore.create

    def lose(self: FolderStore, path: str, data: bytes) -> bool:
        assert create(self, path, data)
        return answer()

    monkeypatch.setattr(FolderStore, "create", lose)
    with holding(store, "f", "the run"):
        assert describe_holder(store, "f") == this_process().describe()
    assert store.list("f") == {}


def test_a_lease_that_could_not_be_made_is_an_error(store, monkeypatch):
    monkeypatch.setattr(FolderStore, "create", lambda *_: raise_(BenchError("403")))
    with pytest.raises(BenchError, match=r"^403$"), holding(store, "f", "the run"):
        pytest.fail("entered")


def test_a_place_out_of_reach_at_the_end_does_not_fail_the_run(store, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(113, "No route to host")

    with holding(store, "f", "the run"):
        monkeypatch.setattr(FolderStore, "remove", refuse)
    assert list(store.list("f")) == ["lease-000001.json"]  # it expires by itself
