"""The figure of equal tuning, by what is drawn in it."""

from __future__ import annotations

import pytest
import tiny_data
from matplotlib.figure import Figure

from rc2l_bench.report import tuning_figure
from rc2l_bench.report.tuning_figure import draw_tuning
from rc2l_bench.report.tuning_table import TuningSummary, expected_best, learning_rates, summarise_tuning
from rc2l_bench.tuning import Trial


@pytest.fixture
def summary(monkeypatch) -> TuningSummary:
    """Of the committed trials on `shapes`."""
    monkeypatch.chdir(tiny_data.ROOT)
    return summarise_tuning("shapes")[0]


@pytest.fixture
def drawn(monkeypatch, summary, tmp_path):
    """Draws a summary, without writing it."""

    def draw(one: TuningSummary = summary) -> Figure:
        figures: list[Figure] = []
        with monkeypatch.context() as patch:
            patch.setattr(tuning_figure, "save", lambda figure, *_: figures.append(figure))
            draw_tuning(one, tmp_path)
        return figures[0]

    return draw


def test_it_is_written_in_three_formats(summary, tmp_path):
    found = draw_tuning(summary, tmp_path)
    assert found.stem == "shapes-tuning"
    assert {path.name for path in tmp_path.iterdir()} == {f"shapes-tuning.{suffix}" for suffix in ("svg", "pdf", "png")}


def test_every_method_has_the_curve_of_its_expected_best(summary, drawn):
    figure = drawn()
    left, _ = figure.axes
    assert len(left.lines) == len(summary.rows) == len(figure.legends[0].get_texts())
    for line, row in zip(left.lines, summary.rows, strict=True):
        best = expected_best([trial.miou for trial in summary.trials[row.method]])
        assert list(line.get_xdata()) == list(range(1, row.trials + 1))
        assert list(line.get_ydata()) == pytest.approx([100 * value for value in best])
        assert line.get_label() == row.method.split("/")[-1]


def test_every_trial_with_a_score_is_a_point_at_its_learning_rate(summary, drawn):
    _, right = drawn().axes
    assert right.get_xscale() == "log"
    for line, row in zip(right.lines, summary.rows, strict=True):
        points = [(rate, 100 * score) for rate, score in learning_rates(summary.trials[row.method]) if score > 0]
        assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == [pytest.approx(point) for point in points]


def test_trials_are_counted_in_whole_numbers(summary, drawn):
    trials = {method: found[:4] for method, found in summary.trials.items()}
    left, _ = drawn(summary._replace(trials=trials)).axes
    assert all(float(tick).is_integer() for tick in left.get_xticks())


@pytest.mark.parametrize("rates", [(0.0005, 0.015), (0.0012, 0.0085)])
def test_learning_rates_are_written_as_plain_numbers(summary, drawn, rates):
    method = summary.rows[0].method
    trials = [Trial(method, n, {"lr": rate}, 0.5, False, 1.0, "f") for n, rate in enumerate(rates)]
    figure = drawn(summary._replace(rows=summary.rows[:1], trials={method: trials}))
    figure.draw_without_rendering()
    _, right = figure.axes
    low, high = right.get_xlim()
    written = [label.get_text() for label in right.get_xticklabels(which="both") if label.get_text()]
    assert sum(low <= float(text) <= high for text in written) >= 2


def test_trials_that_diverged_are_no_points(summary, drawn):
    method = summary.rows[0].method
    trials = [Trial(method, n, {"lr": 0.1 * (n + 1)}, miou, miou == 0, 1.0, "f") for n, miou in enumerate((0.0, 0.5))]
    one = summary._replace(rows=summary.rows[:1], trials={method: trials})
    _, right = drawn(one).axes
    assert [list(line.get_ydata()) for line in right.lines] == [[50.0]]
    _, right = drawn(one._replace(trials={method: trials[:1]})).axes
    assert list(right.lines) == []


def test_no_two_methods_look_alike(drawn):
    left, _ = drawn().axes
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in left.lines}
    assert len(looks) == len(left.lines)
