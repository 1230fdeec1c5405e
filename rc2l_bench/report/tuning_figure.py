"""The figure of equal tuning: the expected best of n trials, and how a method's score depends on its learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from rc2l_bench.report.figure_style import FigureFile, choose_look, save, style
from rc2l_bench.report.formatting import short_names
from rc2l_bench.report.tuning_table import TuningSummary, expected_best, learning_rates


def draw_tuning(summary: TuningSummary, folder: Path) -> FigureFile:
    """Write the figure of a data set's tuning as PDF, SVG and PNG.

    Args:
        summary: what was tried.
        folder: where the files go; it exists.
    """
    stem = f"{summary.dataset}-tuning"
    methods = [row.method for row in summary.rows]
    with style():
        figure = Figure(figsize=(7.6, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for index, method in enumerate(methods):
            _draw_method(left, right, summary, method, choose_look(index, short_names(methods)[method]))
        left.set(xlabel="trials", ylabel="expected best mIoU, %")
        left.xaxis.set_major_locator(MaxNLocator(integer=True))
        right.set(xlabel="learning rate (log scale)", ylabel="mIoU of a trial, %", xscale="log")
        # Powers of ten alone may lie outside of what was tried, and matplotlib writes them as mathematics.
        right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        right.xaxis.set_major_formatter("{x:g}")
        right.minorticks_off()
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        save(figure, folder, stem)
    caption = (
        "Left: the best score that n of the trials find on average, so how a method does at a smaller tuning budget. "
        "Right: every trial at its learning rate; the spread at one rate comes from the method's own numbers."
    )
    return FigureFile(stem, "tuning", caption, "svg")


def _draw_method(left: Axes, right: Axes, summary: TuningSummary, method: str, look: dict[str, Any]) -> None:
    trials = summary.trials[method]
    best = expected_best([trial.miou for trial in trials])
    left.plot(range(1, len(best) + 1), [100 * value for value in best], markevery=max(1, len(best) // 8), **look)
    # Trials that diverged have no score to compare: they would stretch the axis to 0.
    points = [(rate, score) for rate, score in learning_rates(trials) if score > 0]
    if points:
        right.plot(*zip(*[(rate, 100 * score) for rate, score in points], strict=True), **look | {"linestyle": ":"})
