"""From every number of a report to its runs, and from a run to what it was made with."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_data import CPS, GRID, SUPERVISED, build, declared_protocol, params, write_run

from rc2l_bench.report.comparison import Key
from rc2l_bench.report.provenance import Provenance, trace
from rc2l_bench.report.report import Report

OTHER = {"versions": {"python": "3.12.0", "torch": "2.14.1"}}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    """Three seeds of one method, one of which is set aside, and one of another with other packages."""
    root: Path = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        changed = {"protocol": declared_protocol(params(), "shapes") | {"steps": 77}} if seed == 2 else {}
        write_run(root, seed=seed, panels=0, **changed)
    write_run(root, method=CPS, panels=0, record=OTHER)
    return build(root, GRID)


@pytest.fixture
def found(report) -> Provenance:
    return trace(report)


def of(found: Provenance, method: str, seed: int):
    return next(one for one in found.traces if (one.run.cell.method, one.run.cell.seed) == (method, seed))


def test_every_run_has_an_anchor_of_its_own(found, report):
    assert [one.run for one in found.traces] == list(report.runs)
    assert [one.anchor for one in found.traces] == ["r1", "r2", "r3", "r4"]


def test_a_number_leads_to_the_first_of_its_runs_and_each_of_these_back_to_it(found, report):
    groups = report.sections[0].groups
    for method in (SUPERVISED, CPS):
        anchor = found.group(0, method, "1_16")
        assert anchor == of(found, method, groups[Key(method, "1_16")].runs[0].cell.seed).anchor
        (back,) = {of(found, method, run.cell.seed).group for run in groups[Key(method, "1_16")].runs}
        assert back == f"g0-{list(groups).index(Key(method, '1_16'))}"


def test_a_run_that_is_set_aside_is_a_part_of_no_number_and_has_a_protocol_of_its_own(found):
    aside = of(found, SUPERVISED, 2)
    assert (aside.status, aside.group) == ("set aside", "")
    assert aside.protocol != of(found, SUPERVISED, 0).protocol == of(found, SUPERVISED, 1).protocol


def test_equal_settings_are_written_once_as_lines(found):
    assert len(found.protocols) == 2
    steps = [dict(lines)["steps"] for lines in found.protocols]
    assert steps[of(found, SUPERVISED, 2).protocol - 1] == "77"
    assert all("net.region.queries" in dict(lines) for lines in found.protocols)


def test_environments_are_told_apart_by_any_of_their_parts(found):
    first, other = of(found, SUPERVISED, 0).environment, of(found, CPS, 0).environment
    assert (len(found.environments), first != other) == (2, True)
    lines = dict(found.environments[other - 1])
    assert (lines["versions.python"], lines["hardware.cores"]) == ("3.12.0", "2")


def test_what_a_run_was_made_with_is_at_hand_or_empty(found, report):
    one = of(found, SUPERVISED, 0)
    record = one.run.record
    assert (one.fingerprint, one.split_id) == (record["fingerprint"], record["split"]["id"])
    assert (one.source, one.commit) == ("5" * 64, "0123456789abcdef0123456789abcdef01234567")


def test_what_is_not_known_is_empty(tmp_path):
    write_run(tmp_path, panels=0, record={"commit": None, "source": None})
    (one,) = trace(build(tmp_path, GRID)).traces
    assert (one.source, one.commit) == ("", "")
