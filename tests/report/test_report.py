import json

import pandas as pd
import pytest
from report_data import CPS, GRID, RC2L, SUPERVISED, build, said, write_grid, write_run

from rc2l_bench.errors import UsageError
from rc2l_bench.report import report as reports
from rc2l_bench.report.comparison import Key
from rc2l_bench.report.writer import frame


def test_the_table_is_the_declared_grid_also_without_runs(tmp_path):
    report = build(tmp_path / "runs")
    (section,) = report.sections
    assert (section.methods, tuple(c.split for c in section.columns)) == ((SUPERVISED, CPS, RC2L), ("1_16", "1_4"))
    assert all(place.final is None and place.missing == (0, 1, 2) for place in section.groups.values())
    assert report.missing == 18


def test_a_missing_cell_is_an_empty_place_and_its_neighbours_stay(tmp_path):
    write_grid(tmp_path, GRID.grid, skip={("shapes", "1_16", CPS, s) for s in range(3)} | {("shapes", "1_4", CPS, 1)})
    report = build(tmp_path)
    (section,) = report.sections
    assert f"shapes/1_16/{CPS}: no result for seeds 0, 1, 2" in said(report)
    assert f"shapes/1_4/{CPS}: no result for seed 1" in said(report)
    assert section.groups[Key(CPS, "1_16")].final is None
    assert section.groups[Key(CPS, "1_4")].missing == (1,)
    assert section.groups[Key(CPS, "1_4")].final.n == 2
    assert section.groups[Key(RC2L, "1_16")].final.n == 3


def test_runs_outside_the_grid_get_their_own_section(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path, dataset="camvid", split="1_30", test=True)
    write_run(tmp_path, split="full")
    write_run(tmp_path, split="1_30")
    declared, camvid, shapes = build(tmp_path).sections
    assert declared.declared
    assert (camvid.dataset, camvid.declared, shapes.dataset, shapes.declared) == ("camvid", False, "shapes", False)
    assert [c.split for c in shapes.columns] == ["1_30", "full"]
    assert camvid.groups[Key(SUPERVISED, "1_30")].test.mean > 0
    assert all(not place.missing for place in camvid.groups.values())


@pytest.mark.parametrize(("name", "chosen"), [(None, SUPERVISED), ("rc2l", RC2L), ("cps", CPS), ("baselines/cps", CPS)])
def test_a_reference_is_found_by_its_tail(name, chosen):
    assert reports.choose_reference(name, [CPS, SUPERVISED, RC2L]) == chosen


@pytest.mark.parametrize(("name", "text"), [("suprvised", "no such method"), ("x", "could be a/x or b/x")])
def test_a_reference_that_is_none_is_refused(name, text):
    with pytest.raises(UsageError, match=text):
        reports.choose_reference(name, ["a/x", "b/x", SUPERVISED])


def test_the_rows_of_the_csv_are_the_declared_and_the_found_cells(tmp_path):
    write_run(tmp_path, seed=0)
    write_run(tmp_path, split="full", seed=0)
    table = frame(build(tmp_path))
    assert len(table) == 19
    assert table["status"].value_counts().to_dict() == {"missing": 17, "ok": 2}
    row = table[table["split"] == "full"].iloc[0]
    assert not row["declared"]
    metrics = json.loads((tmp_path / f"shapes/full/{SUPERVISED}/seed0/metrics.json").read_text())
    assert row["miou"] == metrics["miou"]
    assert row["iou/ring"] == metrics["iou"]["ring"]
    assert pd.isna(table["miou"].iloc[1])
