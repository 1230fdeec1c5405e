"""Draw pictures that compare methods on the same validation images, with maps of their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from numpy.typing import NDArray

from rc2l_bench.report.comparison import Key, Section
from rc2l_bench.report.figure_style import FigureFile, save, style
from rc2l_bench.report.formatting import percent, short_names
from rc2l_bench.report.results import FinishedRun, Remark
from rc2l_bench.report.run_files import PanelFiles, panels_of, read_picture
from rc2l_bench.types import IGNORE

IMAGES = 3
METHODS = 8
BESIDE = 2
_IGNORED = (255, 255, 255)
_RIGHT = (222, 226, 230)
_WRONG = (213, 94, 0)
_GAP = 0.03
"""Between pictures, as a share of their width."""

Bytes = NDArray[np.uint8]


def draw(section: Section, folder: Path, stem: str) -> tuple[list[FigureFile], list[Remark]]:
    """Draw one figure for each split with panels: image, truth, and every method's prediction over its errors.

    Of every method the first seed is shown: no picture is chosen for how it looks.

    Args:
        section: the results.
        folder: where the files go; it exists.
        stem: start of the file names.

    Returns:
        The pictures, and remarks on panels that could not be read.
    """
    pictures, remarks = [], []
    for column in section.columns:
        runs = {m: run for m in section.methods if (run := _first(section.groups[Key(m, column.split)].runs))}
        panels = {m: {panel.id: panel for panel in panels_of(run)} for m, run in runs.items()}
        # Runs without panels drop out before the first eight are taken, not after.
        panels = dict([(m, table) for m, table in panels.items() if table][:METHODS])
        if not panels:
            continue
        # One damaged picture costs the figure of its split, not the report. No SVG, which could only wrap the
        # photographs.
        try:
            with style():
                figure = _figure(section, panels)
                save(figure, folder, f"{stem}-{column.split}-panels", ("png", "pdf"))
        except (OSError, ValueError, IndexError) as error:
            remarks.append(Remark(f"{section.dataset}/{column.split}", f"no pictures: {error}"))
            continue
        seeds = ", ".join(sorted({str(run.cell.seed) for run in runs.values()}))
        more = f" of the first {METHODS} of {len(runs)} methods" if len(runs) > METHODS else ""
        errors = "errors: orange wrong, grey right, white ignored"
        caption = f"Predictions{more} at {column.split} (seed {seeds}); {errors}."
        pictures.append(FigureFile(f"{stem}-{column.split}-panels", f"Pictures at {column.split}", caption, "png"))
    return pictures, remarks


def _first(runs: Sequence[FinishedRun]) -> FinishedRun | None:
    return runs[0] if runs else None


class _Mosaic:
    """A grid of pictures in one field, with places of width 1: sixty fields take ten times as long to draw."""

    def __init__(self, axes: Axes, height: float, rows: int, columns: int) -> None:
        """Empties the field.

        Args:
            axes: where pictures go.
            height: of a place.
            rows: of places.
            columns: of places.
        """
        self._axes, self._height = axes, height
        self._size = (columns * (1 + _GAP) - _GAP, rows * (height + _GAP) - _GAP)
        axes.set_axis_off()

    def _corner(self, row: int, column: int) -> tuple[float, float]:
        return column * (1 + _GAP), row * (self._height + _GAP)

    def put(self, picture: Bytes, row: int, column: int, smooth: bool = False) -> None:
        """Shows a picture as large as its place allows; classes are not smoothed, for between two there is no third."""
        left, top = self._corner(row, column)
        height, width = picture.shape[:2]
        scale = min(1 / width, self._height / height)
        left, top = left + (1 - width * scale) / 2, top + (self._height - height * scale) / 2
        extent = (left, left + width * scale, top + height * scale, top)
        self._axes.imshow(picture, extent=extent, interpolation=None if smooth else "nearest")

    def head(self, text: str, column: int) -> None:
        """Writes the head of a column."""
        self._axes.text(
            self._corner(0, column)[0] + 0.5, -0.04, text, fontsize=8, fontweight="bold", ha="center", va="bottom"
        )

    def note(self, text: str, row: int, column: int) -> None:
        """Writes a few words onto a picture."""
        left, top = self._corner(row, column)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85}
        self._axes.text(left + 0.03, top + 0.96 * self._height, text, fontsize=6.5, va="bottom", bbox=box)

    def close(self) -> None:
        """Makes the field as large as the grid, whatever pictures there are."""
        self._axes.set(xlim=(0, self._size[0]), ylim=(self._size[1], 0), aspect="equal")


def _figure(section: Section, panels: Mapping[str, Mapping[str, PanelFiles]]) -> Figure:
    """Lay out a line for each image with errors beside predictions, or two with errors below when methods are many."""
    ids = _common(panels)
    beside = len(panels) <= BESIDE
    across, lines = (2 + 2 * len(panels), 1) if beside else (2 + len(panels), 2)
    # The figure gets the form of the images: constrained layout would leave white stripes otherwise.
    one = next(table[ids[0]] for table in panels.values() if ids[0] in table)
    height, width = read_picture(one.run, one.image).shape[:2]
    size = (1.75 * across, 1.75 * height / width * lines * len(ids) + 0.7)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02))
    mosaic = _Mosaic(figure.subplots(), height / width, lines * len(ids), across)
    names = short_names(section.methods)
    heads = [head for m in panels for head in ([names[m], "errors"] if beside else [names[m]])]
    for column, head in enumerate(["image", "truth", *heads]):
        mosaic.head(head, column)
    for index, panel_id in enumerate(ids):
        found = [table.get(panel_id) for table in panels.values()]
        _fill(mosaic, index, found, section, beside)
    mosaic.close()
    _legend(figure, section)
    return figure


def _common(panels: Mapping[str, Mapping[str, PanelFiles]]) -> list[str]:
    """Choose the images that most methods have, the first ones in sorted order among equals."""
    counts = {i: sum(i in table for table in panels.values()) for table in panels.values() for i in table}
    return sorted(sorted(counts, key=lambda i: (-counts[i], i))[:IMAGES])


def _fill(mosaic: _Mosaic, index: int, panels: Sequence[PanelFiles | None], section: Section, beside: bool) -> None:
    """Draw one image: picture and truth, then every prediction with its errors."""
    known = next(panel for panel in panels if panel)
    truth = read_picture(known.run, known.truth)
    row = index if beside else 2 * index
    mosaic.put(read_picture(known.run, known.image), row, 0, smooth=True)
    mosaic.put(paint(truth, section.palette), row, 1)
    for number, panel in enumerate(panels):
        # The method has no panel of this image: its place stays empty, so that columns keep their meaning.
        if panel is None:
            continue
        upper, lower = (
            ((row, 2 + 2 * number), (row, 3 + 2 * number)) if beside else ((row, 2 + number), (row + 1, 2 + number))
        )
        prediction = read_picture(panel.run, panel.prediction)
        # Against the first method's copy of the truth; another size means another data set and raises.
        share, errors = errors_of(truth, prediction)
        mosaic.put(paint(prediction, section.palette), *upper)
        mosaic.put(errors, *lower)
        mosaic.note(f"{percent(share)} % wrong", *lower)


def _legend(figure: Figure, section: Section) -> None:
    patches = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*colour), edgecolor="#8a8a8a", linewidth=0.4, label=name)
        for name, colour in zip(section.classes, section.palette, strict=False)
    ]
    columns = max(1, int(figure.get_figwidth() / 1.1))
    figure.legend(
        handles=patches, loc="outside lower left", ncols=columns, fontsize=7, handlelength=1.2, columnspacing=1.2
    )


def paint(labels: Bytes, palette: Sequence[Sequence[int]]) -> Bytes:
    """Colour class indices; what has no colour, and what is ignored, becomes white.

    Args:
        labels: (H, W) uint8, class indices or 255.
        palette: a colour for each class, 0..255.

    Returns:
        (H, W, 3) uint8.
    """
    # All 256 values have an entry, so that a damaged picture is drawn white in places and not refused.
    table = np.full((IGNORE + 1, 3), _IGNORED, np.uint8)
    table[: len(palette)] = np.asarray(palette, np.uint8).reshape(-1, 3)
    return table[labels]


def errors_of(truth: Bytes, prediction: Bytes) -> tuple[float, Bytes]:
    """Find where a prediction is wrong.

    Args:
        truth: (H, W), class indices or 255.
        prediction: (H, W), class indices.

    Returns:
        The share of wrong pixels among those that count, in [0, 1] (0 if none does), and a picture, (H, W, 3) uint8.

    Raises:
        ValueError: the two differ in size.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"the truth is {truth.shape}, the prediction {prediction.shape}")
    counts = truth != IGNORE
    wrong = counts & (truth != prediction)
    picture = np.full((*truth.shape, 3), _IGNORED, np.uint8)
    picture[counts] = _RIGHT
    picture[wrong] = _WRONG
    return float(wrong.sum() / max(counts.sum(), 1)), picture
