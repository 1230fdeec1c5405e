"""The figure of a section of variants, by what is drawn in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from report_data import GRID, RC2L, RC2L_NONE, RC2L_RMC, build, write_family, write_run

from rc2l_bench.report.ablation_figure import draw_variants
from rc2l_bench.report.comparison import Key, Section


def family(root: Path) -> Section:
    return build(root, GRID).sections[-1]


@pytest.fixture(scope="module")
def section(tmp_path_factory) -> Section:
    """A method and two variants on one split, and one of them on another."""
    root = tmp_path_factory.mktemp("runs")
    write_family(root, panels=0)
    write_family(root, methods=(RC2L_NONE,), split="1_4", panels=0)
    return family(root)


def dots(axes) -> list[tuple[float, float]]:
    """Place of every dot: mIoU and row."""
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines if line.get_marker() == "o"]


def test_every_variant_is_a_dot_at_its_mean_in_a_field_for_its_split(section):
    figure, _ = draw_variants(section)
    assert [axes.get_title() for axes in figure.axes] == ["1_16", "1_4"]
    for axes in figure.axes:
        final = {row: section.groups[Key(m, axes.get_title())].final for row, m in enumerate(section.methods)}
        assert dots(axes) == [(pytest.approx(100 * one.mean), row) for row, one in final.items() if one]


def test_rows_are_the_variants_from_top_to_bottom(section):
    figure, _ = draw_variants(section)
    assert section.methods == (RC2L_NONE, RC2L_RMC, RC2L)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["rc2l@none", "rc2l@rmc", "rc2l"]
    low, high = figure.axes[0].get_ylim()
    assert low > high


def test_bars_are_the_intervals(section):
    figure, _ = draw_variants(section)
    ends = [container.get_children()[-1].get_segments()[0][:, 0] for container in figure.axes[0].containers]
    finals = [section.groups[Key(method, "1_16")].final for method in section.methods]
    assert np.allclose(ends, [[100 * one.low, 100 * one.high] for one in finals])


def test_a_single_seed_has_no_bar(tmp_path):
    for method in (RC2L, RC2L_NONE):
        write_run(tmp_path, method=method, panels=0, images=1)
    figure, _ = draw_variants(family(tmp_path))
    assert len(dots(figure.axes[0])) == 2
    assert [container.has_xerr for container in figure.axes[0].containers] == [False, False]


def test_the_dashed_line_is_the_method_itself_and_the_caption_says_so(section):
    figure, caption = draw_variants(section)
    dashed = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [
        pytest.approx(100 * section.groups[Key(RC2L, "1_16")].final.mean)
    ]
    assert "the dashed line is rc2l." in caption
    assert not [line for line in figure.axes[1].lines if line.get_linestyle() == "--"]


def test_without_results_there_is_no_figure(tmp_path):
    assert draw_variants(build(tmp_path, GRID).sections[0]) is None
