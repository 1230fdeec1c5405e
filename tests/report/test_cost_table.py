import pytest
from report_data import CPS, SUPERVISED, build, said, write_run


def test_times_of_different_machines_are_said_not_to_be_comparable(tmp_path):
    write_run(tmp_path, seed=0)
    write_run(tmp_path, seed=1, record={"hardware": {"cpu": "another"}})
    assert "2 kinds of hardware" in said(build(tmp_path))


def test_costs_are_multiples_of_the_reference(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path, method=CPS)
    costs = build(tmp_path).sections[0].costs
    assert costs[SUPERVISED].time_ratio == 1
    assert costs[CPS].time_ratio == pytest.approx(1.6)
    assert costs[CPS].memory_mb == pytest.approx(940)
