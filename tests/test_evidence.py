"""The evidence that is committed, and the figures that documents quote from it."""

from __future__ import annotations

import re
from pathlib import Path

from report_data import params
from tiny_data import ROOT

from rc2l_bench.cli.evidence import documents_of
from rc2l_bench.report.evidence import WEIGHTS, check_folder
from rc2l_bench.report.quotes import EVIDENCE, Library, refresh
from rc2l_bench.seals import RECORD

MOST_BYTES = 400_000
"""Of a run. Where counts per image take more, think about where the evidence should lie instead."""


def sets() -> list[Path]:
    return [ROOT / EVIDENCE / name for name in Library(ROOT / EVIDENCE, params()).sets]


def test_all_evidence_is_whole():
    assert [fault for folder in sets() for fault in check_folder(folder)[1]] == []


def test_no_evidence_has_weights_or_is_large():
    runs = [record.parent for folder in sets() for record in folder.rglob(RECORD)]
    sizes = {run: sum(file.stat().st_size for file in run.rglob("*") if file.is_file()) for run in runs}
    assert [str(run) for run in runs if sizes[run] > MOST_BYTES or (run / WEIGHTS).exists()] == []


def test_documents_quote_what_the_evidence_gives():
    library = Library(ROOT / EVIDENCE, params())
    texts = {path: path.read_text(encoding="utf-8") for path in documents_of(ROOT)}
    wrong = [line for path, text in texts.items() for line in refresh(text, path.name, library)[1]]
    assert wrong == [], "`make evidence` brings them up to date"


def test_no_sentence_has_a_marker_at_the_beginning_of_a_line():
    texts = {path.name: path.read_text(encoding="utf-8") for path in documents_of(ROOT)}
    found = {name: re.findall(r"^ *<!-- evidence [^>]*-->.+", text, re.MULTILINE) for name, text in texts.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}, "Markdown takes such a line for HTML"
