"""What the paper says of the rows of a study. It was measured on other images, so only the order can be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rc2l_bench.errors import UsageError
from rc2l_bench.readers import parse_rows, read_text
from rc2l_bench.report.comparison import Section

FILE = "published_studies.csv"
KNOWN = ("stated", "derived", "indirect")


class StudyFigure(NamedTuple):
    """One row of the table of studies."""

    study: str
    """Name, as in params.yaml."""
    method: str
    """Id of the variant that has the same numbers here."""
    setting: str
    """The data and labels that it was measured on."""
    miou: str
    """In per cent, with the digits of the source."""
    known: str
    """`stated` by the paper; `derived` from gains that it states; `indirect`, told of its tables by others and in line
    with its text."""
    source: str


class Quoted(NamedTuple):
    """Columns of published figures beside the rows of a study.

    Attributes:
        settings: heads of the columns; none where nothing was published.
        by_method: the figure of every method in every column, empty where there is none.
    """

    settings: tuple[str, ...]
    by_method: Mapping[str, tuple[str, ...]]


def read_studies(path: Path) -> tuple[StudyFigure, ...]:
    """Read the table of studies; none if there is no such file.

    Raises:
        UsageError: a row has other columns than a `StudyFigure`, or is not a figure in per cent with its source.
        DamagedFileError: it is no table in UTF-8.
    """
    if not path.is_file():
        return ()
    head, *rows = parse_rows(read_text(path), path) or [[]]
    if tuple(head) != StudyFigure._fields:
        raise UsageError(f"{path}: line 1: expected the columns {','.join(StudyFigure._fields)}")
    return tuple(_figure(path, line, row) for line, row in enumerate(rows, start=2))


def _figure(path: Path, line: int, row: Sequence[str]) -> StudyFigure:
    if len(row) != len(StudyFigure._fields):
        raise UsageError(f"{path}: line {line}: {len(row)} columns, expected {len(StudyFigure._fields)}")
    figure = StudyFigure(*row)
    if not re.fullmatch(r"[0-9]{1,2}\.[0-9]+", figure.miou) or figure.known not in KNOWN or not figure.source:
        raise UsageError(
            f"{path}: line {line}: expected an mIoU in per cent, how it is known ({' or '.join(KNOWN)}) and its source"
        )
    return figure


def quote(section: Section, figures: Sequence[StudyFigure]) -> Quoted:
    """Put published figures beside the rows of a section; none where it is no study, or nothing was published."""
    mine = [figure for figure in figures if section.study and figure.study == section.study]
    columns = tuple(dict.fromkeys(figure.setting for figure in mine))
    known = {(figure.method, figure.setting): _shown(figure) for figure in mine}
    return Quoted(columns, {m: tuple(known.get((m, setting), "") for setting in columns) for m in section.methods})


def _shown(figure: StudyFigure) -> str:
    return figure.miou if figure.known == KNOWN[0] else f"{figure.miou} ({figure.known})"
