"""Draw the figure of `scaling`: memory and time of contrastive terms against the number of pixels, both logarithmic."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rc2l_bench.readers import UNREADABLE, first_line, read_bytes
from rc2l_bench.report.figure_style import COLOURS, MARKERS, FigureFile, save, style
from rc2l_bench.report.results import Remark

_COLUMNS = {
    "scaling.csv": ["term", "crop", "pixels", "bytes", "seconds"],
    "exponents.csv": ["term", "quantity", "exponent", "low", "high"],
}
QUANTITIES = {"bytes": ("memory, MiB", 2**20), "seconds": ("processor time, s", 1)}
LIMITS = dict.fromkeys(("crop", "pixels", *QUANTITIES), (1e-9, 1e15)) | dict.fromkeys(
    ("exponent", "low", "high"), (-100.0, 100.0)
)
"""Values that are shown. Axes are logarithmic, so more than zero; nothing beyond what any machine has or waits for."""
MOST_LETTERS = 60
"""Of a term, which stands in the legend."""


class Scaling(NamedTuple):
    """Figure of what `make scaling` measured, and its numbers.

    Attributes:
        picture: the figure.
        exponents: rows with `term`, `quantity`, `exponent`, `low`, `high`.
    """

    picture: FigureFile
    exponents: list[dict[str, Any]]


def show_scaling(measured: Path, folder: Path) -> tuple[Scaling | None, list[Remark]]:
    """Draw what was measured, if anything was.

    Args:
        measured: folder with scaling.csv and exponents.csv; it may be missing.
        folder: where the figure goes.

    Returns:
        The figure with its numbers (None without any), and remarks on what is wrong with them.
    """
    if not measured.is_dir():
        return None, []
    try:
        table, exponents = (_read(measured / name, columns) for name, columns in _COLUMNS.items())
        draw_scaling(table, exponents, folder)
    except UNREADABLE as error:
        return None, [Remark(str(measured), f"no scaling: {first_line(error)}; run `make scaling` again")]
    caption = (
        "Memory and processor time of the contrastive terms alone against the number of pixels, both logarithmic; the "
        "exponents are slopes with 95 % intervals."
    )
    rows: list[dict[str, Any]] = [{str(k): v for k, v in row.items()} for row in exponents.to_dict("records")]
    return Scaling(FigureFile("scaling", "scaling", caption, "svg"), rows), []


def _read(file: Path, columns: list[str]) -> pd.DataFrame:
    """Read a table.

    Raises:
        ValueError: a column is missing, there is no row, the name of a term cannot be shown, or a value cannot be.
    """
    table = pd.read_csv(io.BytesIO(read_bytes(file)))
    # Checked here, because a missing column would be a KeyError that names neither the file nor what to do.
    missing = [name for name in columns if name not in table]
    if missing or not len(table):
        raise ValueError(f"{file.name} has no {', '.join(missing) or 'rows'}")
    if not all(str(term).isprintable() and len(str(term)) <= MOST_LETTERS for term in table["term"]):
        raise ValueError(f"{file.name} names a term that cannot be shown")
    for name in table.columns.intersection(list(LIMITS)):
        (low, high), values = LIMITS[name], pd.to_numeric(table[name]).dropna()
        # A slope that was not fitted is left out; an axis needs a value.
        if not values.between(low, high).all() or (not len(values) and low > 0):
            raise ValueError(f"{file.name} has {name} that are not between {low:g} and {high:g}")
    return table


def draw_scaling(table: pd.DataFrame, exponents: pd.DataFrame, folder: Path, stem: str = "scaling") -> None:
    """Write the figure as PDF, SVG and PNG.

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
    """Draw one quantity of all terms; a slope that was not fitted is left out of the legend."""
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
    # Every other one is named: at this width all of them would run into one another.
    shown = crops[np.arange(len(crops)) % 2 == 0]
    axes.set_xticks(shown["pixels"], [str(crop) for crop in shown["crop"]])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set(xlabel="side of the crop, pixels (log scale)", ylabel=f"{name} (log scale)")
    title = "exponent in the number of pixels, 95 % interval"
    axes.legend(title=title, title_fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2))
