"""Tabulate how far predictions can be relied upon: calibration, and mIoU on spoilt images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rc2l_bench.report.comparison import Key, Section
from rc2l_bench.report.results import FinishedRun, number

CORRUPTIONS = "corruptions"
"""Key of metrics.json with the mIoU on val by corruption."""


class Measure(NamedTuple):
    """A column.

    Attributes:
        title: its head.
        part: the second line of its head.
        keys: where it stands in metrics.json.
        share: whether it is a share, 0..1, which is shown in per cent.
        main: whether a table for print has it.
    """

    title: str
    part: str
    keys: tuple[str, ...]
    share: bool
    main: bool


class Spread(NamedTuple):
    """Mean and standard deviation (n − 1) over n seeds; nan for one."""

    mean: float
    sd: float
    n: int


class Reliability(NamedTuple):
    """A table of a section.

    Attributes:
        measures: those that some run has; none for runs that were made before there were any.
        rows: one value for each measure; None where a run of the group does not have it.
    """

    measures: tuple[Measure, ...]
    rows: Mapping[Key, tuple[Spread | None, ...]]


_CALIBRATION = (
    Measure("ECE", "%, all pixels", ("ece",), True, True),
    Measure("ECE", "%, mean of images", ("ece_per_image",), True, False),
    Measure("NLL", "nats, all pixels", ("nll",), False, True),
    Measure("NLL", "nats, mean of images", ("nll_per_image",), False, False),
    Measure("ECE on test", "%, all pixels", ("test", "ece"), True, False),
    Measure("NLL on test", "nats, all pixels", ("test", "nll"), False, False),
)


def corruptions_of(runs: Iterable[FinishedRun]) -> list[str]:
    """List the corruptions under which some run was scored, in the order in which they are met."""
    tables = [table for run in runs if isinstance(table := run.metrics.get(CORRUPTIONS), dict)]
    return list(dict.fromkeys(str(name) for table in tables for name in table))


def value_of(run: FinishedRun, keys: Sequence[str], share: bool) -> float:
    """Find a number of metrics.json; nan where there is none, or one that cannot be."""
    value = number(run.metrics, *keys)
    return value if 0 <= value <= (1 if share else math.inf) else math.nan


def compare_reliability(section: Section) -> Reliability:
    """Tabulate a section, mean and spread over seeds."""
    spoilt = [Measure(name, "mIoU, %", (CORRUPTIONS, name), True, True) for name in corruptions_of(section.runs)]
    measures = tuple(
        measure
        for measure in (*_CALIBRATION, *spoilt)
        if any(math.isfinite(value_of(run, measure.keys, measure.share)) for run in section.runs)
    )
    groups = {key: group.runs for key, group in section.groups.items() if group.runs}
    return Reliability(measures, {key: tuple(_spread(runs, m) for m in measures) for key, runs in groups.items()})


def _spread(runs: Sequence[FinishedRun], measure: Measure) -> Spread | None:
    values = np.array([value_of(run, measure.keys, measure.share) for run in runs])
    if not np.isfinite(values).all():
        return None
    return Spread(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan, len(values))
