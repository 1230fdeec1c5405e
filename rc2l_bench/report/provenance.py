"""Trace every number of a report to its runs, and every run to what it was made with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rc2l_bench.report.comparison import Key, Section
from rc2l_bench.report.report import Report
from rc2l_bench.report.results import Cell, FinishedRun


class Trace(NamedTuple):
    """One run: its place in the page, and what it was made with.

    Attributes:
        anchor: of the run in the page.
        run: the run.
        status: see `Report.status`.
        group: anchor of the number that it is a part of; empty if of none.
        protocol: number of its protocol, from 1.
        environment: number of its versions, hardware and runtime settings, from 1.
    """

    anchor: str
    run: FinishedRun
    status: str
    group: str
    protocol: int
    environment: int

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the run."""
        return str(self.run.record["fingerprint"])

    @property
    def split_id(self) -> str:
        """Digest of the ids of the labelled images."""
        return str(self.run.record["split"]["id"])

    @property
    def source(self) -> str:
        """Digest of the modules that made the numbers; empty if unknown."""
        return str(self.run.record.get("source") or "")

    @property
    def commit(self) -> str:
        """Commit of the checkout; empty if unknown."""
        return str(self.run.record.get("commit") or "")


class Provenance(NamedTuple):
    """All runs of a report, with what many of them share written once.

    Attributes:
        traces: one for every run that could be read.
        groups: the anchor of the first run of every group, by section and group.
        protocols: the different protocols, as lines of `name: value`.
        environments: the different versions, hardware and runtime settings, likewise.
    """

    traces: tuple[Trace, ...]
    groups: Mapping[tuple[int, Key], str]
    protocols: tuple[Sequence[tuple[str, str]], ...]
    environments: tuple[Sequence[tuple[str, str]], ...]

    def group(self, section: int, method: str, split: str) -> str:
        """Return the anchor of a group's first run."""
        return self.groups[section, Key(method, split)]


def trace(report: Report) -> Provenance:
    """Number the runs and collect what they share.

    Args:
        report: the results; every run that could be read gets a trace, also one that is set aside.
    """
    # A method beside its variants is in two sections; it leads to the later one, where all of them are.
    groups = {run.cell: f"g{i}-{j}" for i, s in enumerate(report.sections) for j, run in _numbered(s)}
    protocols: dict[str, int] = {}
    environments: dict[str, int] = {}
    traces = []
    for index, run in enumerate(report.runs, start=1):
        # By their text with sorted keys: equal settings are one, whatever order they were written in.
        protocol = protocols.setdefault(_text(run.record["protocol"]), len(protocols) + 1)
        environment = environments.setdefault(_text(_environment(run)), len(environments) + 1)
        status = report.status(run.cell)
        traces.append(Trace(f"r{index}", run, status, groups.get(run.cell, ""), protocol, environment))
    anchors = {t.run.cell: t.anchor for t in traces}
    return Provenance(tuple(traces), _groups(report.sections, anchors), _lines(protocols), _lines(environments))


def _numbered(section: Section) -> list[tuple[int, FinishedRun]]:
    return [(j, run) for j, group in enumerate(section.groups.values()) for run in group.runs]


def _groups(sections: Sequence[Section], anchors: Mapping[Cell, str]) -> dict[tuple[int, Key], str]:
    return {
        (i, key): anchors[group.runs[0].cell]
        for i, section in enumerate(sections)
        for key, group in section.groups.items()
        if group.runs
    }


def _environment(run: FinishedRun) -> dict[str, Any]:
    # Apart from the protocol: these may differ between runs that are compared.
    return {name: run.record.get(name) for name in ("versions", "hardware", "runtime")}


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _lines(texts: Mapping[str, int]) -> tuple[list[tuple[str, str]], ...]:
    # A dict keeps the order of insertion, and so the order of the numbers that `trace` gave.
    return tuple(list(_flatten(json.loads(text), "")) for text in texts)


def _flatten(value: object, path: str) -> list[tuple[str, str]]:
    """Turn nested keys into lines `a.b: value`; `all` where the whole is one value."""
    if isinstance(value, dict) and value:
        return [line for key, inner in value.items() for line in _flatten(inner, f"{path}.{key}" if path else str(key))]
    return [(path or "all", value if isinstance(value, str) else json.dumps(value))]
