"""From runs to what a report shows: sections, cells, differences, ties, costs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from rc2l_bench.metrics import Floats
from rc2l_bench.report import stats
from rc2l_bench.report.cost_table import Cost, compare_costs
from rc2l_bench.report.results import FinishedRun, Remark, read_areas
from rc2l_bench.report.stats import Difference, Estimate

ALPHA = 0.05
_RUNS_AT_ONCE = 64


class Key(NamedTuple):
    """A group in the table of a section."""

    method: str
    split: str


@dataclass(frozen=True)
class SeedGroup:
    """One cell of the table: all seeds of a method on a split.

    Attributes:
        runs: those with a final mIoU, by seed.
        missing: declared seeds without one.
        final: mIoU of the last step on val.
        best: mIoU of the best evaluation, chosen on val itself and therefore optimistic.
        optimism: mean of best − final.
        test: final mIoU on test.
        gap: final minus the reference's, over the seeds that both have.
        p: of the gap, after Holm's correction over the section.
        tied: it is the best of its column, or the test cannot tell it from the best.
        seeds_needed: to show a gap of this size with probability 0.8.
    """

    runs: tuple[FinishedRun, ...] = ()
    missing: tuple[int, ...] = ()
    final: Estimate | None = None
    best: Estimate | None = None
    optimism: float = math.nan
    test: Estimate | None = None
    gap: Difference | None = None
    p: float = math.nan
    tied: bool = False
    seeds_needed: int | None = None


@dataclass(frozen=True)
class Column:
    """One split of a section.

    Attributes:
        labelled: labelled images; None if no run says so.
        share: of the training images.
        floor: differences under this cannot be told apart with these runs; nan if unknown.
    """

    split: str
    labelled: int | None
    share: float
    floor: float


@dataclass(frozen=True)
class Section:
    """One table: a dataset's part of the declared grid, what lies on disk outside it, or the variants of a method."""

    dataset: str
    declared: bool
    reference: str
    methods: tuple[str, ...]
    columns: tuple[Column, ...]
    groups: Mapping[Key, SeedGroup]
    costs: Mapping[str, Cost]
    memory_kind: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, ...], ...]
    remarks: tuple[Remark, ...]
    seeds: tuple[int, ...]
    family: str = ""
    study: str = ""

    @property
    def runs(self) -> list[FinishedRun]:
        """All runs of the section, in the order of the table."""
        return [run for group in self.groups.values() for run in group.runs]

    def scored(self, method: str) -> str:
        """Whose weights were scored: student, teacher or ensemble; empty if the runs do not say so with one voice."""
        found = {str(run.record.get("scored", "")) for run in self.runs if run.cell.method == method}
        return found.pop() if len(found) == 1 else ""

    @property
    def compares(self) -> bool:
        """Some group has a difference to the reference."""
        return any(group.gap for group in self.groups.values())

    @property
    def tested(self) -> bool:
        """Some group has a score on test."""
        return any(group.test for group in self.groups.values())

    @property
    def one_seed(self) -> bool:
        """No group has more than one seed."""
        return bool(self.runs) and all(len(group.runs) < 2 for group in self.groups.values())


class Plan(NamedTuple):
    """The rows, columns and seeds that a section should have.

    Attributes:
        family: the method whose variants the rows are; empty for rows that are methods.
        study: the study of params.yaml that they belong to, if any.
    """

    dataset: str
    declared: bool
    methods: tuple[str, ...]
    splits: tuple[str, ...]
    seeds: tuple[int, ...]
    family: str = ""
    study: str = ""


def compare_runs(plan: Plan, runs: Sequence[FinishedRun], reference: str, resamples: int) -> Section:
    """Builds a section.

    Args:
        plan: its rows and columns; a cell without runs stays an empty group.
        runs: comparable runs of the section's dataset; those outside the plan are ignored.
        reference: method that differences and ratios are taken against; it may be missing.
        resamples: of the bootstrap.
    """
    remarks: list[Remark] = []
    groups: dict[Key, SeedGroup] = {}
    columns = []
    for split in plan.splits:
        mine = [run for run in runs if run.cell.split == split and run.cell.method in plan.methods]
        column = _Scores(mine, resamples, remarks)
        groups.update({Key(m, split): _group(m, column, plan, reference) for m in plan.methods})
        columns.append(_column(split, mine, column))
        groups.update(_mark_ties(split, plan.methods, groups, column))
    mine = [run for group in groups.values() for run in group.runs]
    costs, kind, notes = compare_costs(plan.methods, mine, reference)
    classes, palette = _legend(mine)
    ordered = {Key(m, s): groups[Key(m, s)] for m in plan.methods for s in plan.splits}
    return Section(
        dataset=plan.dataset, declared=plan.declared, reference=reference, methods=plan.methods, columns=tuple(columns),
        groups=_correct(ordered), costs=costs, memory_kind=kind, classes=classes, palette=palette,
        remarks=(*remarks, *notes), seeds=plan.seeds, family=plan.family, study=plan.study,
    )  # fmt: skip


class _Scores:
    """The scores of one column: by method and seed, and on resampled images where every run has its counts."""

    def __init__(self, runs: Sequence[FinishedRun], resamples: int, remarks: list[Remark]) -> None:
        self.runs: dict[str, dict[int, FinishedRun]] = defaultdict(dict)
        for run in sorted(runs, key=lambda r: r.cell):
            if math.isfinite(run.miou):
                self.runs[run.cell.method][run.cell.seed] = run
        self._draws = _draw([run for table in self.runs.values() for run in table.values()], resamples, remarks)

    def of(self, method: str, seeds: Sequence[int]) -> tuple[Floats, Floats | None]:
        """Final mIoU by seed, (S,), and on resampled images, (B, S)."""
        runs = [self.runs[method][seed] for seed in seeds]
        draws = [self._draws.get(str(run.cell)) for run in runs]
        values = np.array([run.miou for run in runs])
        known = [draw for draw in draws if draw is not None]
        return values, np.stack(known, axis=1) if len(known) == len(draws) else None

    def estimate(self, method: str) -> Estimate:
        return stats.estimate(*self.of(method, list(self.runs[method])))

    def difference(self, method: str, other: str) -> Difference | None:
        """Paired over common seeds; None without any."""
        if method not in self.runs or other not in self.runs:
            return None
        seeds = sorted(self.runs[method].keys() & self.runs[other].keys())
        if not seeds:
            return None
        (ours, our_draws), (theirs, their_draws) = self.of(method, seeds), self.of(other, seeds)
        both = (our_draws, their_draws) if our_draws is not None and their_draws is not None else None
        return stats.compare(ours, theirs, both)


def _draw(runs: Sequence[FinishedRun], resamples: int, remarks: list[Remark]) -> dict[str, Floats]:
    """The mIoU of every run on the same resampled images: (B,) each."""
    draws: dict[str, Floats] = {}
    expected: tuple[object, object] | None = None
    for start in range(0, len(runs), _RUNS_AT_ONCE):
        areas: dict[str, Floats] = {}
        for run in runs[start : start + _RUNS_AT_ONCE]:
            try:
                ids, counts = read_areas(run)
                expected = expected or (ids, counts.shape)
                if (ids, counts.shape) != expected:
                    raise ValueError("scored on other images or classes than its neighbours")
                areas[str(run.cell)] = counts
            except ValueError as error:
                remarks.append(Remark(str(run.cell), f"no interval over images: {error}"))
        if areas:
            drawn = stats.resample_images(np.stack(list(areas.values())), resamples, runs[0].absent)
            draws.update(zip(areas, drawn.T, strict=True))
    return draws


def _group(method: str, column: _Scores, plan: Plan, reference: str) -> SeedGroup:
    table = column.runs.get(method, {})
    missing = tuple(seed for seed in plan.seeds if plan.declared and seed not in table)
    if not table:
        return SeedGroup(missing=missing)
    runs = tuple(table.values())
    gap = column.difference(method, reference) if method != reference else None
    return SeedGroup(
        runs=runs,
        missing=missing,
        final=column.estimate(method),
        best=_plain([run.miou_best for run in runs]),
        optimism=float(np.mean([run.miou_best - run.miou for run in runs])),
        test=_plain([run.miou_test for run in runs]),
        gap=gap,
        seeds_needed=stats.seeds_needed(gap.mean, gap.sd, gap.se_images) if gap else None,
    )


def _plain(values: Sequence[float]) -> Estimate | None:
    """Mean and spread of numbers without counts; None unless all are known."""
    return stats.estimate(np.array(values)) if all(map(math.isfinite, values)) else None


def _mark_ties(
    split: str, methods: Sequence[str], groups: Mapping[Key, SeedGroup], column: _Scores
) -> dict[Key, SeedGroup]:
    """Finds the best of a column and those that the test cannot tell from it."""
    means = {m: group.final.mean for m in methods if (group := groups[Key(m, split)]).final is not None}
    if len(means) < 2:
        return {}
    best = max(means, key=lambda m: means[m])
    others = [m for m in means if m != best]
    differences = [column.difference(m, best) for m in others]
    adjusted = stats.holm([d.p if d else math.nan for d in differences])
    tied = [best, *(m for m, p in zip(others, adjusted, strict=True) if not p < ALPHA)]
    return {Key(m, split): replace(groups[Key(m, split)], tied=True) for m in tied}


def _correct(groups: Mapping[Key, SeedGroup]) -> dict[Key, SeedGroup]:
    """Holm's correction over all differences of the section."""
    adjusted = stats.holm([group.gap.p if group.gap else math.nan for group in groups.values()])
    return {key: replace(group, p=p) for (key, group), p in zip(groups.items(), adjusted, strict=True)}


def _column(split: str, runs: Sequence[FinishedRun], column: _Scores) -> Column:
    pairs = [column.difference(a, b) for a, b in combinations(sorted(column.runs), 2)]
    split_record = runs[0].record["split"] if runs else {}
    labelled, unlabelled = split_record.get("labelled", 0), split_record.get("unlabelled", 0)
    # Nobody knows how many images a stream has.
    share = labelled / (labelled + unlabelled) if labelled and unlabelled is not None else math.nan
    floor = stats.resolution([pair for pair in pairs if pair])
    return Column(split, labelled or None, share, floor)


def _legend(runs: Sequence[FinishedRun]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Class names and colours; empty without runs."""
    if not runs:
        return (), ()
    record = runs[0].record["dataset"]
    return tuple(record["classes"]), tuple(tuple(colour) for colour in record["palette"])
