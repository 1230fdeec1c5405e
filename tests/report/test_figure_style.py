"""What all figures have in common: their look, their files, and the same bytes for the same results."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from PIL import Image

from rc2l_bench.report.figure_style import choose_look, draw_legend, look_of, save, style


def figure(*labels: str) -> Figure:
    with style():
        made = Figure(figsize=(3, 2), layout="constrained")
        axes = made.subplots()
        for index, label in enumerate(labels):
            axes.plot([0, 1], [index, 1], label=label)
        axes.set_title("costs $5 & $6_x")
    return made


def test_matplotlibs_own_settings_stay_as_they_were():
    before = dict(mpl.rcParams)
    with style():
        assert mpl.rcParams["svg.hashsalt"] == "rc2l-bench"
    assert dict(mpl.rcParams) == before


def test_the_same_figure_has_the_same_bytes_and_names_neither_date_nor_program(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        with style():
            save(figure("x"), tmp_path / name, "f")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"f.svg", "f.pdf", "f.png"}
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert b"Matplotlib" not in path.read_bytes()


def test_only_the_formats_that_are_asked_for_are_written(tmp_path):
    save(figure("x"), tmp_path, "f", ("png",))
    assert [path.name for path in tmp_path.iterdir()] == ["f.png"]


def test_nothing_that_is_drawn_is_cut_off(tmp_path):
    """The border of the picture is white on all sides, also where a title is wider than the field."""
    made = figure("x")
    made.axes[0].set_title("a title that is much wider than its field, by far, and then some")
    with style():
        save(made, tmp_path, "f", ("png",))
    picture = Image.open(tmp_path / "f.png").convert("L")
    for box in ((0, 0, picture.width, 1), (picture.width - 1, 0, picture.width, picture.height)):
        assert picture.crop(box).getextrema() == (255, 255)


def test_the_looks_of_many_curves_differ():
    looks = [choose_look(index, "x") for index in range(32)]
    assert len({(look["color"], look["linestyle"]) for look in looks}) == 32
    assert choose_look(32, "x") == looks[0]


def test_a_method_has_one_look_in_a_section():
    section = SimpleNamespace(methods=("baselines/cps", "mine/cps", "baselines/u2pl"))
    assert look_of(section, "mine/cps") == choose_look(1, "mine/cps")
    assert look_of(section, "baselines/u2pl") == choose_look(2, "u2pl")


@pytest.mark.parametrize(("labels", "legends"), [((), 0), (("a",), 0), (("a", "b"), 1)])
def test_a_single_curve_needs_no_legend(labels, legends):
    made = figure(*labels)
    draw_legend(made, made.axes[0])
    assert len(made.legends) == legends
