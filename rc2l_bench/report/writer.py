"""Write a report: results.csv, report.md, table.tex, index.html and the figures."""

from __future__ import annotations

import base64
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

from rc2l_bench.files import replace_folder, write_atomically
from rc2l_bench.report import citations, figures, qualitative, quoted_study
from rc2l_bench.report.ablation_table import Settings, settings
from rc2l_bench.report.citations import cite, read_references
from rc2l_bench.report.class_table import class_table
from rc2l_bench.report.comparison import Key, Section
from rc2l_bench.report.cost_table import machine_of
from rc2l_bench.report.figure_style import FigureFile
from rc2l_bench.report.formatting import short_names
from rc2l_bench.report.literature import FILE, match, read_figures
from rc2l_bench.report.provenance import trace
from rc2l_bench.report.quoted_study import Quoted, StudyFigure, quote, read_studies
from rc2l_bench.report.reliability import CORRUPTIONS, Reliability, compare_reliability, corruptions_of, value_of
from rc2l_bench.report.rendering import render
from rc2l_bench.report.report import Report
from rc2l_bench.report.results import Cell, FinishedRun, Remark, number
from rc2l_bench.report.scaling_figure import Scaling, show_scaling
from rc2l_bench.report.tuning_figure import draw_tuning
from rc2l_bench.report.tuning_table import TuningSummary, summarise_tuning

Format = Literal["html", "latex", "markdown", "csv"]
FILES: Mapping[Format, str] = {
    "csv": "results.csv",
    "markdown": "report.md",
    "latex": "table.tex",
    "html": "index.html",
}
CITATIONS = "citations.bib"
TEMPLATES = Path("reports/templates")
SCALING = "scaling"
"""Folder beside the templates where `make scaling` puts what it measured."""


class Chapter(NamedTuple):
    """A section with what was drawn of it.

    Attributes:
        section: the results.
        anchor: of its heading in the page.
        names: short name of every method.
        pictures: its figures and, where they are embedded, their data.
        iou: mean IoU by class of every group.
        settings: what variants are set to.
        quoted: what was published of the rows of a study.
        reliability: calibration of every group, and its mIoU on spoilt images.
    """

    section: Section
    anchor: str
    names: Mapping[str, str]
    pictures: tuple[tuple[FigureFile, str], ...]
    iou: Mapping[Key, Any]
    settings: Settings
    quoted: Quoted
    reliability: Reliability


class Drawn(NamedTuple):
    """All that was drawn of a report, with what could not be.

    Attributes:
        chapters: one for every section.
        tuning: of every data set that was tuned, with its figure and the data of that.
        scaling: of the contrastive terms, and the data of its figure; None if it was not measured.
        remarks: those of the report, and what could not be drawn.
    """

    chapters: list[Chapter]
    tuning: list[tuple[TuningSummary, FigureFile, str]]
    scaling: tuple[Scaling, str] | None
    remarks: list[Remark]


def write(report: Report, out: Path, templates: Path = TEMPLATES) -> None:
    """Write every format and the figures into a folder; files appear complete or not at all.

    Published figures and the scaling are taken from beside the folder of templates.

    Args:
        report: the results.
        out: folder; other files in it stay.
        templates: folder of the templates.

    Raises:
        UsageError: a template is missing, or the published figures cannot be read.
    """
    # Figures first: the texts embed them, and the folder is replaced as a whole only if all could be drawn. What was
    # drawn comes back by the list, because `replace_folder` returns nothing.
    drawn: list[Drawn] = []
    replace_folder(out / "figures", lambda folder: drawn.append(_draw(report, folder, templates)))
    for kind, file in FILES.items():
        write_atomically(out / file, _render(report, kind, templates, drawn[0]).encode())
    write_atomically(out / CITATIONS, f"{_citations(report, templates)}\n".encode())


def compose(report: Report, kind: Format, templates: Path = TEMPLATES) -> str:
    """Make one format as text.

    Args:
        report: the results.
        kind: the format.
        templates: folder of the templates.

    Raises:
        UsageError: a template is missing, or the published figures cannot be read.
    """
    # Only the page shows pictures, so for the other formats none are drawn.
    if kind != "html":
        studies = read_studies(templates.parent / quoted_study.FILE)
        chapters = [_chapter(section, index, (), studies) for index, section in enumerate(report.sections)]
        return _render(
            report,
            kind,
            templates,
            Drawn(chapters, _tuning(report, None, remarks := list(report.remarks)), None, remarks),
        )
    with tempfile.TemporaryDirectory() as name:
        return _render(report, kind, templates, _draw(report, Path(name), templates))


def _render(report: Report, kind: Format, templates: Path, drawn: Drawn) -> str:
    # A table for programs: full precision and no template, in which numbers could be rounded by mistake.
    if kind == "csv":
        # Line ends are fixed, so that equal results give equal bytes on every system.
        return frame(report).to_csv(index=False, lineterminator="\n")
    values: dict[str, Any] = {"report": report, "Key": Key, **drawn._asdict()}
    known = read_figures(templates.parent / FILE)
    values["citations"] = _citations(report, templates)
    values |= {"published": [match(section, known) for section in report.sections]}
    values |= {"provenance": trace(report)}
    return render(templates, f"{FILES[kind]}.j2", **values).rstrip() + "\n"


def _citations(report: Report, templates: Path) -> str:
    """Make BibTeX of the suite and of every method that a report shows."""
    methods = [method for section in report.sections for method in section.methods]
    return cite(methods, read_references(templates.parent / citations.FILE))


def _draw(report: Report, folder: Path, templates: Path) -> Drawn:
    """Draw all figures into a folder, and collect what could not be drawn."""
    remarks = list(report.remarks)
    chapters, studies = [], read_studies(templates.parent / quoted_study.FILE)
    for index, section in enumerate(report.sections):
        stem = _stem(section)
        drawn, undrawn = figures.draw(section, folder, stem)
        pictures, unread = ([], []) if section.family else qualitative.draw(section, folder, stem)
        remarks += undrawn + unread
        chapters.append(_chapter(section, index, tuple((p, embed(folder, p)) for p in drawn + pictures), studies))
    tuning = _tuning(report, folder, remarks)
    scaling, unread = show_scaling(templates.parent / SCALING, folder)
    shown = (scaling, embed(folder, scaling.picture)) if scaling else None
    # Each remark once: several figures may meet the same fault.
    return Drawn(chapters, tuning, shown, list(dict.fromkeys(remarks + unread)))


def _tuning(report: Report, folder: Path | None, remarks: list[Remark]) -> list[tuple[TuningSummary, FigureFile, str]]:
    """Summarise what tuning did for the data sets of a report; draw it where there is a folder."""
    found = []
    for dataset in dict.fromkeys(section.dataset for section in report.sections):
        summary, wrong = summarise_tuning(dataset)
        remarks += wrong
        if summary and folder:
            picture = draw_tuning(summary, folder)
            found.append((summary, picture, embed(folder, picture)))
        elif summary:
            found.append((summary, FigureFile("", "", "", "svg"), ""))
    return found


def _chapter(
    section: Section, index: int, pictures: tuple[tuple[FigureFile, str], ...], studies: Sequence[StudyFigure]
) -> Chapter:
    names = short_names(list(dict.fromkeys([*section.methods, section.reference])))
    iou = {} if section.family else class_table(section)
    quoted, reliability = quote(section, studies), compare_reliability(section)
    return Chapter(section, f"s{index}", names, pictures, iou, settings(section), quoted, reliability)


def _stem(section: Section) -> str:
    """Make the start of the names of a section's figures, different for every section."""
    # A data set can have several kinds of sections: its grid, what lies outside of it, studies, and other variants.
    part = "" if section.declared else f"-{section.family or 'outside'}-{section.study}".rstrip("-")
    return slug(f"{section.dataset}{part}")


def slug(text: str) -> str:
    """Turn a name into a part of a file name: letters, digits, dot, dash and underscore; hidden and empty never."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).lstrip(".") or "_"


def embed(folder: Path, picture: FigureFile) -> str:
    """Read a picture of a folder as a data URI.

    The page is one file that can be sent and archived, and its content security policy admits no other source.
    """
    kind = {"svg": "image/svg+xml", "png": "image/png"}[picture.suffix]
    content = (folder / f"{picture.stem}.{picture.suffix}").read_bytes()
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def frame(report: Report) -> pd.DataFrame:
    """Tabulate the numbers of every declared or found run with full precision, and where they come from.

    Returns:
        A row for each; declared runs come first, and have a row where they have no result. mIoU, IoU by class in the
        columns `iou/<class>` and mIoU on spoilt images in `miou/<corruption>` are in [0, 1], memory in MiB; nan where
        unknown.
    """
    runs = {run.cell: run for run in report.runs}
    cells = list(dict.fromkeys([*report.declared, *runs]))
    declared = set(report.declared)
    rows = [_row(report, cell, runs.get(cell)) | {"declared": cell in declared} for cell in cells]
    # Classes of all data sets: a table has one head, and a class of another data set is empty.
    classes = list(dict.fromkeys(name for run in report.runs for name in run.iou()))
    spoilt = corruptions_of(report.runs)
    for row, cell in zip(rows, cells, strict=True):
        run = runs.get(cell)
        iou = run.iou() if run else {}
        row |= {f"miou/{name}": value_of(run, (CORRUPTIONS, name), True) if run else math.nan for name in spoilt}
        row |= {f"iou/{name}": iou.get(name, math.nan) for name in classes}
    return pd.DataFrame(rows)


def _row(report: Report, cell: Cell, run: FinishedRun | None) -> dict[str, Any]:
    # A missing run has the same columns, all empty: whoever reads the table sees that it is missing, not a shorter
    # table.
    metrics, cost, record = (run.metrics, run.cost, run.record) if run else ({}, {}, {})
    split = record.get("split", {})
    return {
        **cell._asdict(),
        "status": report.status(cell),
        "scored": record.get("scored", ""),
        "declared": False,
        "labelled": number(split, "labelled"),
        "unlabelled": number(split, "unlabelled"),
        "miou": run.miou if run else math.nan,
        "miou_best_on_val": run.miou_best if run else math.nan,
        "optimism": run.miou_best - run.miou if run else math.nan,
        "best_step": number(metrics, "best_step"),
        "pixel_accuracy": number(metrics, "pixel_accuracy"),
        "test_miou": run.miou_test if run else math.nan,
        "ece": number(metrics, "ece"),
        "ece_per_image": number(metrics, "ece_per_image"),
        "nll": number(metrics, "nll"),
        "nll_per_image": number(metrics, "nll_per_image"),
        "test_ece": number(metrics, "test", "ece"),
        "test_nll": number(metrics, "test", "nll"),
        "step_seconds": number(cost, "step_seconds", "median"),
        "step_seconds_p95": number(cost, "step_seconds", "p95"),
        "seconds": number(cost, "seconds"),
        "images_per_second": number(cost, "images_per_second"),
        "resident_mb": number(cost, "peak_memory", "resident_mb"),
        "allocated_mb": number(cost, "peak_memory", "allocated_mb"),
        "reserved_mb": number(cost, "peak_memory", "reserved_mb"),
        "parameters_trained": number(cost, "parameters", "trained"),
        "parameters_deployed": number(cost, "parameters", "deployed"),
        "device": cost.get("device", ""),
        "hardware": machine_of(run) if run else "",
        "fingerprint": record.get("fingerprint", ""),
        "split_id": split.get("id", ""),
        "source": record.get("source", ""),
        "commit": record.get("commit", ""),
    }
