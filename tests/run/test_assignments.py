"""What a machine is given to do, and what it makes sure of before it does it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import run_data
import tiny_data
from slurm_data import CLUSTER, ITEMS, TITLES

from rc2l_bench.errors import BenchError, PreemptedError
from rc2l_bench.run import assignments
from rc2l_bench.run.assignments import Assignment, assign, carry_out, check_same, find_outstanding, provenance_of
from rc2l_bench.run.pipeline import cell_stages

METHOD = "baselines/supervised"


@pytest.fixture
def here(checkout, monkeypatch) -> Path:
    monkeypatch.chdir(checkout)
    return checkout


@pytest.fixture
def assignment(here) -> Assignment:
    return assign(cell_stages(ITEMS[0])[-1].module, CLUSTER)


def answer(monkeypatch, code: int) -> list[list[str]]:
    """What is asked of a program that ends with a code."""
    asked: list[list[str]] = []
    monkeypatch.setattr(assignments, "run_program", lambda command: asked.append(list(command)) or code)
    return asked


def test_an_assignment_names_the_run_and_its_command(assignment):
    assert (assignment.title, assignment.nodes, assignment.processes) == (TITLES[0], CLUSTER.nodes, CLUSTER.processes)
    assert assignment.command == [sys.executable, "-m", *cell_stages(ITEMS[0])[-1].module]
    assert assignment.run.folder.name == assignment.expected["fingerprint"]


def test_all_trainings_of_a_fresh_checkout_are_outstanding(here):
    found = find_outstanding([cell_stages(item)[-1] for item in ITEMS], CLUSTER)
    assert [one.assignment.title for one in found] == TITLES


def test_a_training_whose_run_is_in_the_store_is_handed_out_instead(here):
    result = run_data.train(here, METHOD)
    weights = (result / "model.safetensors").read_bytes()
    (result / "model.safetensors").unlink()
    [left] = find_outstanding([cell_stages(item)[-1] for item in ITEMS], CLUSTER)
    assert left.assignment.title == TITLES[1]
    assert (result / "model.safetensors").read_bytes() == weights


def test_an_assignment_is_carried_out_where_the_run_is_the_same(assignment, monkeypatch, capsys):
    asked = answer(monkeypatch, 3)
    assert carry_out(assignment, ["program", "argument"]) == 3
    assert asked == [["program", "argument"]]
    assert f"{TITLES[0]}, on " in capsys.readouterr().err


def test_nothing_is_carried_out_where_the_protocol_is_another(assignment, here, monkeypatch):
    asked = answer(monkeypatch, 0)
    tiny_data.write_yaml(here / "params.yaml", tiny_data.params(protocol={"default": {"steps": 9}}))
    with pytest.raises(BenchError, match="differs from where this was submitted: other protocol: a run from here"):
        carry_out(assignment, ["program"])
    assert asked == []


def test_a_training_that_alone_got_the_signal_was_preempted(assignment, monkeypatch):
    answer(monkeypatch, PreemptedError.CONTINUE)
    with pytest.raises(PreemptedError):
        carry_out(assignment, ["program"])


def test_parts_that_differ_are_named(assignment):
    found = provenance_of(assignment.module)
    other = {**found, "fingerprint": "f", "weights": "x", "versions": found["versions"] | {"numpy": "1.0"}}
    with pytest.raises(BenchError, match=r"submitted: other weights; numpy 1\.0 instead of \S+: a run from here"):
        check_same(assignment.expected, other)


def test_the_same_fingerprint_is_the_same_run(assignment):
    check_same(assignment.expected, {"fingerprint": assignment.expected["fingerprint"]})
