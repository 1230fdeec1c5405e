"""The figure of `scaling`: memory and time of contrastive terms against the number of pixels, both logarithmic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rc2l_bench.figures import COLOURS, MARKERS, save, style

QUANTITIES = {"bytes": ("memory, MiB", 2**20), "seconds": ("processor time, s", 1)}


def draw_scaling(table: pd.DataFrame, exponents: pd.DataFrame, folder: Path, stem: str = "scaling") -> None:
    """Writes the figure as PDF, SVG and PNG.

    Args:
        table: see `scaling.measure`.
        exponents: see `scaling.fits`.
        folder: where the files go; it exists.
        stem: their name.
    """
    with style():
        figure = Figure(figsize=(7.6, 4.0), layout="constrained")
        for axes, quantity in zip(figure.subplots(1, 2), QUANTITIES, strict=True):
            _draw(axes, table, exponents[exponents["quantity"] == quantity], quantity)
        save(figure, folder, stem)


def _draw(axes: Axes, table: pd.DataFrame, exponents: pd.DataFrame, quantity: str) -> None:
    name, unit = QUANTITIES[quantity]
    found = exponents.set_index("term")
    for index, (term, part) in enumerate(table.groupby("term", sort=False)):
        part = part[part[quantity].notna()]
        look: dict[str, Any] = {"color": COLOURS[index], "marker": MARKERS[index]}
        label = str(term)
        if term in found.index:
            one = found.loc[term]
            label += f": {one['exponent']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"
        axes.plot(part["pixels"], part[quantity] / unit, label=label, **look)
    axes.set_xscale("log")
    axes.set_yscale("log")
    crops = table.drop_duplicates("crop")
    shown = crops[np.arange(len(crops)) % 2 == 0]
    axes.set_xticks(shown["pixels"], [str(crop) for crop in shown["crop"]])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set(xlabel="side of the crop, pixels (log scale)", ylabel=f"{name} (log scale)")
    title = "exponent in the number of pixels, 95 % interval"
    axes.legend(title=title, title_fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2))
