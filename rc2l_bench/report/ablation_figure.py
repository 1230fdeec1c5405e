"""The figure of a section of variants: what each scores, with its interval, against the method itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rc2l_bench.report.comparison import Key, Section
from rc2l_bench.report.formatting import short_names

_COLOUR = "#0072B2"


def draw_variants(section: Section) -> tuple[Figure, str] | None:
    """MIoU of every variant as a dot with its 95 % interval, a field for each split; None without results."""
    splits = [c.split for c in section.columns if any(section.groups[Key(m, c.split)].final for m in section.methods)]
    if not splits:
        return None
    figure = Figure(figsize=(1.6 + 3.0 * len(splits), 0.8 + 0.28 * len(section.methods)), layout="constrained")
    grid: Any = figure.subplots(1, len(splits), sharey=True, squeeze=False)
    for axes, split in zip(grid.flat, splits, strict=True):
        _fill(axes, section, split)
    names = short_names(section.methods)
    grid.flat[0].set_yticks(range(len(section.methods)), [names[m] for m in section.methods])
    grid.flat[0].set_ylim(len(section.methods) - 0.4, -0.6)
    figure.supxlabel("mIoU on val, %", fontsize=9, color="#333333")
    base = short_names([section.reference])[section.reference]
    return figure, f"mIoU of the variants, mean over seeds with 95 % intervals; the dashed line is {base}."


def _fill(axes: Axes, section: Section, split: str) -> None:
    axes.set_title(split)
    for row, method in enumerate(section.methods):
        final = section.groups[Key(method, split)].final
        if final is None:
            continue
        mean, low, high = 100 * np.array([final.mean, final.low, final.high])
        bars = [[mean - low], [high - mean]] if math.isfinite(low) else None
        axes.errorbar([mean], [row], xerr=bars, fmt="o", color=_COLOUR, capsize=3)
        if method == section.reference:
            axes.axvline(mean, color="#7F7F7F", linestyle="--", linewidth=1.0)
