"""Draw what was scored during training: val, and pseudo-labels on unlabelled images."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from rc2l_bench.report.comparison import Key, Section
from rc2l_bench.report.curves import join_curves
from rc2l_bench.report.figure_style import draw_legend, look_of
from rc2l_bench.report.results import Remark

Curves = Mapping[Key, pd.DataFrame]
"""Mean, min and max over seeds by step."""


def draw_learning(section: Section, remarks: list[Remark]) -> tuple[Figure, str] | None:
    """Draw mIoU on val at the evaluations during training, a field for each split."""
    figure = _draw(section, _read(section, "miou", remarks), "mIoU on val, %")
    text = "Learning curves: mIoU on val during training, mean over seeds; bands from the lowest to the highest seed."
    return (figure, text) if figure else None


def draw_pseudo_labels(section: Section, _: list[Remark]) -> tuple[Figure, str] | None:
    """Draw the mIoU of pseudo-labels during training; None where no run has scored them."""
    # No remarks: what cannot be read is one of the learning curves already.
    figure = _draw(section, _read(section, "pseudo_miou", []), "mIoU of pseudo-labels, %")
    text = (
        "Quality of pseudo-labels: mIoU, during training, of what stands for labels on unlabelled training images, "
        "before any threshold; mean over seeds, bands from the lowest to the highest seed. No method sees these masks."
    )
    return (figure, text) if figure else None


def _read(section: Section, score: str, remarks: list[Remark]) -> Curves:
    found = {key: join_curves(group.runs, score, remarks) for key, group in section.groups.items()}
    return {key: curve for key, curve in found.items() if curve is not None}


def _draw(section: Section, curves: Curves, label: str) -> Figure | None:
    splits = [c.split for c in section.columns if any(key.split == c.split for key in curves)]
    if not splits:
        return None
    across = min(3, len(splits))
    down = math.ceil(len(splits) / across)
    figure = Figure(figsize=(1.2 + 2.6 * across, 0.5 + 2.3 * down), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, split in zip(grid.flat, splits, strict=False):
        axes.set_title(split)
        for method in section.methods:
            if (curve := curves.get(Key(method, split))) is not None:
                look = look_of(section, method)
                axes.plot(curve.index, 100 * curve["mean"], **look)
                axes.fill_between(
                    curve.index, 100 * curve["min"], 100 * curve["max"], color=look["color"], alpha=0.15, lw=0
                )
    for axes in grid.flat[len(splits) :]:
        axes.set_visible(False)
    figure.supxlabel("training step", fontsize=9, color="#333333")
    figure.supylabel(label, fontsize=9, color="#333333")
    draw_legend(figure, grid.flat[0])
    return figure
