"""The figure of what `make scaling` measured."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import tiny_data

from rc2l_bench.config import Params, load
from rc2l_bench.cost.scaling import fits, side_of
from rc2l_bench.report.report import build
from rc2l_bench.report.scaling_figure import draw_scaling, show_scaling
from rc2l_bench.report.writer import write


def test_the_figure_is_written_in_three_formats(tmp_path):
    rows = [("a", crop, side_of(crop) ** 2, crop**2, crop, crop / 9) for crop in (65, 129, 257)]
    table = pd.DataFrame(rows, columns=["term", "crop", "pixels", "bytes", "flops", "seconds"])
    draw_scaling(table, fits(table), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"scaling.svg", "scaling.pdf", "scaling.png"}


@pytest.fixture
def measured(tmp_path) -> Path:
    """What `make scaling` leaves behind."""
    folder = tmp_path / "scaling"
    folder.mkdir()
    crops = [(term, crop, crop**2) for term in ("RC²L", "dense") for crop in (65, 129, 257)]
    rows = [(term, crop, pixels, 8.0 * pixels, 0.5, pixels / 1e6) for term, crop, pixels in crops]
    table = pd.DataFrame(rows, columns=["term", "crop", "pixels", "bytes", "flops", "seconds"])
    table.to_csv(folder / "scaling.csv", index=False)
    fits(table).to_csv(folder / "exponents.csv", index=False)
    return folder


def test_what_was_measured_is_shown(measured, tmp_path):
    scaling, remarks = show_scaling(measured, tmp_path)
    assert remarks == []
    assert (tmp_path / f"{scaling.picture.stem}.svg").is_file()
    assert {row["term"] for row in scaling.exponents} == {"RC²L", "dense"}
    assert scaling.exponents[0]["exponent"] == pytest.approx(1.0)


def test_without_a_measurement_nothing_is_shown(tmp_path):
    assert show_scaling(tmp_path / "scaling", tmp_path) == (None, [])


@pytest.mark.parametrize("file", ["scaling.csv", "exponents.csv"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda p: p.write_text(""), lambda p: p.write_text("term\nRC²L\n")])
def test_a_damaged_measurement_is_a_remark(measured, tmp_path, file, damage):
    damage(measured / file)
    scaling, remarks = show_scaling(measured, tmp_path)
    assert scaling is None
    assert "run `make scaling` again" in remarks[0].text


@pytest.mark.parametrize("value", [0, -1, "", 1e308, "9" * 200])
@pytest.mark.parametrize("quantity", ["crop", "pixels", "bytes", "seconds"])
def test_what_no_logarithmic_axis_shows_is_a_remark(measured, tmp_path, quantity, value):
    table = pd.read_csv(measured / "scaling.csv").assign(**{quantity: value})
    table.to_csv(measured / "scaling.csv", index=False)
    scaling, remarks = show_scaling(measured, tmp_path)
    assert scaling is None
    assert f"scaling.csv has {quantity} that are not between 1e-09 and 1e+15" in remarks[0].text


@pytest.mark.parametrize("value", [1e308, -1e308])
@pytest.mark.parametrize("column", ["exponent", "low", "high"])
def test_a_slope_beyond_belief_is_a_remark(measured, tmp_path, column, value):
    pd.read_csv(measured / "exponents.csv").assign(**{column: value}).to_csv(measured / "exponents.csv", index=False)
    scaling, remarks = show_scaling(measured, tmp_path)
    assert scaling is None
    assert f"exponents.csv has {column} that are not between -100 and 100" in remarks[0].text


def test_the_report_shows_the_measurement(measured, tmp_path):
    templates = tmp_path / "templates"
    shutil.copytree(tiny_data.ROOT / "reports/templates", templates)
    write(build(tmp_path / "runs", load(Params, tiny_data.ROOT / "params.yaml")), tmp_path / "out", templates)
    page, text = ((tmp_path / "out" / name).read_text() for name in ("index.html", "report.md"))
    assert "How contrast grows with the image" in page
    assert "| dense | bytes | 1.00 | 1.00 to 1.00 |" in text
