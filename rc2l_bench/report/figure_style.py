"""What all figures of a report have in common: look, file formats, and the same bytes for the same results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rc2l_bench.report.comparison import Section
from rc2l_bench.report.formatting import short_names

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
"""Okabe and Ito's colours without the yellow, which is too light for a line; told apart by the colour-blind."""
MARKERS = "osD^vPX*"
LINES = ("-", "--", ":", "-.")
SUFFIXES = ("svg", "pdf", "png")

# Class and method names are plain text: `text.parse_math` would take a dollar sign for mathematics. The salt makes ids
# in an SVG equal from one time to the next; paths instead of text make it look the same without the fonts. Type 42
# embeds fonts in a PDF as journals ask for them. Pictures that lie in one field keep their own pixels.
_STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.parse_math": False, "text.usetex": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#8a8a8a", "axes.labelcolor": "#333333",
    "axes.titlesize": 9, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.grid": True,
    "grid.color": "#e6e6e6", "grid.linewidth": 0.7, "xtick.color": "#555555", "ytick.color": "#555555",
    "lines.linewidth": 1.6, "lines.markersize": 5, "legend.frameon": False, "legend.fontsize": 8,
    "figure.dpi": 100, "savefig.dpi": 160, "svg.hashsalt": "rc2l-bench", "svg.fonttype": "path", "pdf.fonttype": 42,
    "image.composite_image": False,
}  # fmt: skip
_METADATA: Mapping[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


class FigureFile(NamedTuple):
    """Name and texts of a figure that was saved.

    Attributes:
        stem: file name without suffix.
        title: what it is, in a few words.
        caption: what it shows, one or two sentences.
        suffix: the file that the page shows, `svg` or `png`.
    """

    stem: str
    title: str
    caption: str
    suffix: str


@contextmanager
def style() -> Iterator[None]:
    """Give all figures their look, and leave matplotlib's own settings as they were."""
    with mpl.rc_context(_STYLE):
        yield


def save(figure: Figure, folder: Path, stem: str, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Write a figure in several formats, without dates and names of programs."""
    # Laid out once for all formats: that, and finding the edge of what is drawn, takes longer than to draw it.
    figure.draw_without_rendering()
    figure.set_layout_engine(None)
    edge = figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
    for suffix in suffixes:
        figure.savefig(folder / f"{stem}.{suffix}", metadata=_METADATA[suffix], bbox_inches=edge, facecolor="white")


def look_of(section: Section, method: str) -> dict[str, Any]:
    """Choose colour, marker, line and label of a method, the same in every figure of a section."""
    return choose_look(section.methods.index(method), short_names(section.methods)[method])


def choose_look(index: int, label: str) -> dict[str, Any]:
    """Choose colour, marker and line of the curve of an index; lines change when colours are through."""
    colour, line = COLOURS[index % len(COLOURS)], LINES[index // len(COLOURS) % len(LINES)]
    return {"color": colour, "marker": MARKERS[index % len(MARKERS)], "linestyle": line, "label": label}


def draw_legend(figure: Figure, axes: Axes) -> None:
    """Name the curves of a field beside it, where there are several."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside right upper")
