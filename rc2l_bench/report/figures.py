"""Draw the figures of a report, each as PDF, SVG and PNG, with the same bytes for the same results."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rc2l_bench.report.ablation_figure import draw_variants
from rc2l_bench.report.class_table import class_table
from rc2l_bench.report.comparison import Key, Section
from rc2l_bench.report.curve_figure import draw_learning, draw_pseudo_labels
from rc2l_bench.report.figure_style import FigureFile, draw_legend, look_of, save, style
from rc2l_bench.report.formatting import percent, short_names
from rc2l_bench.report.results import Remark

MOST_METHODS = 24

Drawing = Callable[[Section, list[Remark]], tuple[Figure, str] | None]
"""Function that draws a section and says what it shows; None where the numbers for it are missing."""


def draw(section: Section, folder: Path, stem: str) -> tuple[list[FigureFile], list[Remark]]:
    """Draw what a section has the numbers for.

    Args:
        section: the results.
        folder: where the files go; it exists.
        stem: start of the file names.

    Returns:
        The pictures, and what could not be drawn.
    """
    remarks: list[Remark] = []
    # More lines than colours and dashes can tell apart say nothing.
    if len(section.methods) > MOST_METHODS:
        text = f"figures show the first {MOST_METHODS} of {len(section.methods)} methods; the tables show all"
        remarks.append(Remark(section.dataset, text))
        section = replace(section, methods=section.methods[:MOST_METHODS])
    pictures = []
    with style():
        for name, function in (_OF_VARIANTS if section.family else _OF_METHODS).items():
            made = function(section, remarks)
            if made:
                save(made[0], folder, f"{stem}-{name}")
                pictures.append(FigureFile(f"{stem}-{name}", name, made[1], "svg"))
    return pictures, remarks


def _labels(section: Section, _: list[Remark]) -> tuple[Figure, str] | None:
    """Draw mIoU against the number of labelled images."""
    columns = [c for c in section.columns if c.labelled]
    if len({c.labelled for c in columns}) < 2:
        return None
    # `Figure`, not pyplot, which keeps figures in a global list and looks for a display.
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    drawn = [_line(axes, section, method) for method in section.methods]
    if not any(drawn):
        return None
    # Splits halve the labels again and again: only on a logarithmic axis do they stand side by side.
    ticks = sorted({int(c.labelled or 0): c.split for c in columns}.items())
    axes.set_xscale("log")
    axes.set_xticks([n for n, _ in ticks], [f"{split}\n{n}" for n, split in ticks])
    axes.minorticks_off()
    axes.set(xlabel="labelled images (log scale)", ylabel="mIoU on val, %")
    axes.margins(x=0.08)
    draw_legend(figure, axes)
    bands = "bars: one seed, so over images only" if section.one_seed else "bands: 95 % intervals over seeds and images"
    return figure, f"mIoU against the number of labelled images, mean over seeds; {bands}."


def _line(axes: Axes, section: Section, method: str) -> bool:
    """Draw the line of a method with its intervals; tell whether there was anything to draw."""
    found = [(c.labelled, group.final) for c in section.columns if (group := section.groups[Key(method, c.split)])]
    points = sorted((n, final) for n, final in found if n and final)
    if not points:
        return False
    x = np.array([n for n, _ in points])
    mean, low, high = (100 * np.array([getattr(e, name) for _, e in points]) for name in ("mean", "low", "high"))
    look = look_of(section, method)
    axes.plot(x, mean, **look)
    # A band needs two points; one alone gets a bar.
    if len(x) > 1:
        axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)
    elif math.isfinite(low[0]):
        axes.errorbar(x, mean, [mean - low, high - mean], color=look["color"], capsize=3)
    return True


def _cost(section: Section, _: list[Remark]) -> tuple[Figure, str] | None:
    """Draw mIoU against memory and step time, at the split with the fewest labels that has most methods."""
    counts = {
        c.split: sum(section.groups[Key(m, c.split)].final is not None for m in section.methods)
        for c in section.columns
    }
    # The first of equals, and columns stand in the order of their labels.
    split = max(counts, key=lambda s: counts[s])
    points = [
        (m, cost, final.mean)
        for m in section.methods
        if (final := section.groups[Key(m, split)].final) and (cost := section.costs.get(m))
    ]
    points = [p for p in points if math.isfinite(p[1].memory_mb) and math.isfinite(p[1].step_ms)]
    # One kind of hardware, the one of most points: those of another would lie elsewhere for that reason alone.
    machines = Counter(cost.machine for _, cost, _ in points)
    points = [p for p in points if p[1].machine == machines.most_common(1)[0][0]]
    if len(points) < 2:
        return None
    figure = Figure(figsize=(6.4, 3.1), layout="constrained")
    # Memory and time as two fields, not as size and place of one mark: both are read off an axis.
    left, right = figure.subplots(1, 2, sharey=True)
    for method, cost, mean in points:
        look = look_of(section, method) | {"linestyle": "none", "markersize": 8}
        left.plot([cost.memory_mb], [100 * mean], **look)
        right.plot([cost.step_ms], [100 * mean], **look)
    left.set(xlabel=f"peak memory ({section.memory_kind}), MiB", ylabel=f"mIoU on val, %, at {split}")
    right.set(xlabel="time of a step, ms")
    for axes in (left, right):
        axes.margins(0.15)
    draw_legend(figure, left)
    return (
        figure,
        f"mIoU at {split} against peak memory ({section.memory_kind}) and the median time of a training step.",
    )


def _classes(section: Section, _: list[Remark]) -> tuple[Figure, str] | None:
    """Draw a heat map of IoU by class."""
    table = class_table(section)
    keys = [Key(m, c.split) for c in section.columns for m in section.methods if Key(m, c.split) in table]
    if not keys:
        return None
    values = 100 * np.stack([table[key] for key in keys])
    rows, columns = values.shape
    figure = Figure(figsize=(2.0 + 0.62 * columns, 0.9 + 0.27 * rows), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=False)
    # Always from 0 to 100, so that a colour means the same in every report; cividis is even for the colour-blind.
    axes.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    names = short_names(section.methods)
    axes.set_xticks(range(columns), section.classes, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(rows), [f"{names[key.method]}  {key.split}" for key in keys])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if values.size <= 1500:  # more would not be legible, and takes long to draw
        _write_values(axes, values)
    return figure, "IoU by class on val, %, mean over seeds; an empty field means that the class is left out."


def _write_values(axes: Axes, values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    for (row, column), value in np.ndenumerate(values):
        # Black on the light half of cividis, white on the dark one.
        ink = "white" if value < 55 else "black"
        axes.text(column, row, percent(value / 100, 0), ha="center", va="center", color=ink, fontsize=7.5)


_OF_METHODS: Mapping[str, Drawing] = {
    "labels": _labels,
    "cost": _cost,
    "classes": _classes,
    "curves": draw_learning,
    "pseudo-labels": draw_pseudo_labels,
}
_OF_VARIANTS: Mapping[str, Drawing] = {
    "variants": lambda section, _: draw_variants(section),
    "curves": draw_learning,
    "pseudo_labels": draw_pseudo_labels,
}
