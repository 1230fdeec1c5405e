"""Figures that documents quote, between markers that say where they come from; made from committed evidence.

    <!-- evidence shapes table split=1_16 --> … <!-- /evidence -->

names a folder under `reports/evidence`, a form of `quote_forms`, and what the form needs; what has blanks stands in
quotation marks. Where the document is shown, the markers are not.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rc2l_bench.config import Grid, Params
from rc2l_bench.errors import BenchError, UsageError, suggest
from rc2l_bench.report.comparison import Section
from rc2l_bench.report.quote_forms import FORMS, INLINE
from rc2l_bench.report.report import Report, build
from rc2l_bench.report.results import find
from rc2l_bench.seals import RECORD
from rc2l_bench.variants import variant_of

EVIDENCE = Path("reports/evidence")
"""Folder of the sets of evidence that are committed, each like `runs/`."""
_END = "<!-- /evidence -->"
_MARK = re.compile(rf"<!-- evidence (?P<words>[^<>]*?) -->(?P<body>.*?){re.escape(_END)}", re.DOTALL)
_CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_PART = re.compile(r"<!-- */?evidence")


class Quote(NamedTuple):
    """One quoted figure or table.

    Attributes:
        where: document and line.
        words: of the marker: set, form, options.
        body: what stands between the markers.
        start: of the body in the text of the document.
        end: of it.
    """

    where: str
    words: str
    body: str
    start: int
    end: int


@dataclass
class Library:
    """The committed evidence, read when it is quoted.

    Attributes:
        root: folder of the sets.
        params: gives methods their order; no number.
    """

    root: Path
    params: Params
    _reports: dict[tuple[str, str | None], Report] = field(default_factory=dict)

    @property
    def sets(self) -> list[str]:
        """Names of the sets: of the folders that have a run somewhere; others hold evidence of another kind."""
        return sorted(path.name for path in self.root.glob("*") if next(path.rglob(RECORD), None))

    def section(self, name: str, study: str, reference: str | None) -> Section:
        """Compute the tables of a set, or of the variants of a study in it.

        Args:
            name: of the set.
            study: of params.yaml; empty for the methods.
            reference: see `report.build`.

        Raises:
            UsageError: there is no such set, study or reference.
        """
        if name not in self.sets:
            raise UsageError(f"no evidence '{name}' under {self.root}: {suggest(name, self.sets)}")
        report = self._reports.get((name, reference)) or self._build(name, reference)
        self._reports[name, reference] = report
        found = [section for section in report.sections if section.study == study and section.runs]
        if len(found) != 1:
            what = f"study '{study}'" if study else "data set"
            raise UsageError(f"evidence '{name}' has {len(found) or 'no'} tables of one {what}, expected one")
        return found[0]

    def _build(self, name: str, reference: str | None) -> Report:
        folder = self.root / name
        cells = [run.cell for run in find(folder)[0] if not variant_of(run.cell.method)]
        known = [m for grid in (self.params.grid, *self.params.grids.values()) for m in grid.method]
        if not cells:
            return build(folder, self.params, reference)
        # The grid of the evidence, not of today's params.yaml: what was measured stays one table.
        methods = sorted(
            {cell.method for cell in cells}, key=lambda m: (m not in known, m in known and known.index(m), m)
        )
        grid = Grid(
            dataset=sorted({cell.dataset for cell in cells}), split=list(dict.fromkeys(cell.split for cell in cells)),
            method=methods, seed=sorted({cell.seed for cell in cells}),
        )  # fmt: skip
        return build(folder, self.params.model_copy(update={"grid": grid}), reference)


def find_quotes(text: str, document: str) -> list[Quote]:
    """Find what a document quotes; markers in blocks of code are examples.

    Raises:
        BenchError: a marker has no end, or is inside of another.
    """
    examples = [match.span() for match in _CODE.finditer(text)]
    found = [match for match in _MARK.finditer(text) if not _lies_in(match.start(), examples)]
    halves = {half for match in found for half in (match.start(), match.end() - len(_END))}
    for part in _PART.finditer(text):
        if part.start() not in halves and not _lies_in(part.start(), examples):
            where = f"{document}:{_line(text, part.start())}"
            raise BenchError(f"{where}: a marker of evidence without its other half: expected … {_END}")
    return [
        Quote(f"{document}:{_line(text, m.start())}", m["words"], m["body"], m.start("body"), m.end("body"))
        for m in found
    ]


def _lies_in(position: int, spans: Sequence[tuple[int, int]]) -> bool:
    return any(start <= position < end for start, end in spans)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def render_quote(quote: Quote, library: Library) -> str:
    """Make what has to stand between two markers.

    Raises:
        UsageError: the marker asks for what there is not; names document and line.
    """
    try:
        name, form, *rest = shlex.split(quote.words)
        options = dict(word.split("=", 1) for word in rest)
    except ValueError:
        raise UsageError(f"{quote.where}: {quote.words!r}: expected a set, a form, and options name=value") from None
    try:
        if form not in FORMS:
            raise UsageError(f"unknown form '{form}': {suggest(form, FORMS)}")
        section = library.section(name, options.pop("study", ""), options.pop("reference", None))
        made = FORMS[form](section, **options)
    except TypeError:
        raise UsageError(f"{quote.where}: '{form}' takes other options than {' '.join(rest) or 'none'}") from None
    except UsageError as error:
        raise UsageError(f"{quote.where}: {error}") from None
    return made if form in INLINE else f"\n{made}\n"


def refresh(text: str, document: str, library: Library) -> tuple[str, list[str]]:
    """Bring what a document quotes up to date.

    Args:
        text: of the document.
        document: its name, for messages.
        library: the evidence.

    Returns:
        The text as it should be, and a line for every quote that was not what the evidence gives.

    Raises:
        BenchError: a marker is broken, or asks for what there is not.
    """
    wrong, pieces, last = [], [], 0
    for quote in find_quotes(text, document):
        new = render_quote(quote, library)
        pieces += [text[last : quote.start], new]
        last = quote.end
        if quote.body != new:
            wrong.append(f"{quote.where}: says {_short(quote.body)}, the evidence gives {_short(new)}")
    return "".join([*pieces, text[last:]]), wrong


def _short(text: str) -> str:
    words = " ".join(text.split())
    return repr(words if len(words) <= 60 else f"{words[:59]}…")
