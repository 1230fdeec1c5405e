"""From runs to what a report shows: sections, cells, differences, ties, costs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from rc2l_bench.config import Draws
from rc2l_bench.metrics import Floats
from rc2l_bench.report import stats
from rc2l_bench.report.cost_table import Cost, compare_costs
from rc2l_bench.report.results import FinishedRun, Remark
from rc2l_bench.report.run_files import read_areas
from rc2l_bench.report.stats import Difference, Estimate
from rc2l_bench.report.variance import Pooled, leave_one_out, pool


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
        tied: it is the best of its column, or cannot be told from the best among all pairs; never without a verdict.
    """

    runs: tuple[FinishedRun, ...] = ()
    missing: tuple[int, ...] = ()
    final: Estimate | None = None
    best: Estimate | None = None
    optimism: float = math.nan
    test: Estimate | None = None
    gap: Difference | None = None
    tied: bool = False


@dataclass(frozen=True)
class Column:
    """One split of a section.

    Attributes:
        labelled: labelled images; None if no run says so.
        share: of the training images.
        half_widths: of the intervals of all differences of two methods; None where there is no verdict.
        draws: what another seed changes in the labels; None without runs.
    """

    split: str
    labelled: int | None
    share: float
    half_widths: stats.HalfWidths | None
    draws: Draws | None


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
    def machines(self) -> dict[str, list[str]]:
        """The kinds of hardware that memory and time were measured on, with the methods of each."""
        found: dict[str, list[str]] = defaultdict(list)
        for method, cost in self.costs.items():
            found[cost.machine].append(method)
        return dict(found)

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


def compare_runs(plan: Plan, runs: Sequence[FinishedRun], reference: str) -> Section:
    """Build a section.

    Args:
        plan: its rows and columns; a cell without runs stays an empty group.
        runs: comparable runs of the section's dataset; those outside the plan are ignored.
        reference: method that differences and ratios are taken against; it may be missing.
    """
    remarks: list[Remark] = []
    groups: dict[Key, SeedGroup] = {}
    columns = []
    for split in plan.splits:
        mine = [run for run in runs if run.cell.split == split and run.cell.method in plan.methods]
        column = _Scores(mine, remarks)
        groups.update({Key(m, split): _group(m, column, plan, reference) for m in plan.methods})
        columns.append(_column(split, mine, column))
        groups.update(_mark_ties(split, plan.methods, groups, column))
    mine = [run for group in groups.values() for run in group.runs]
    costs, kind, notes = compare_costs(plan.methods, mine, reference)
    classes, palette = _legend(mine)
    ordered = {Key(m, s): groups[Key(m, s)] for m in plan.methods for s in plan.splits}
    return Section(
        dataset=plan.dataset, declared=plan.declared, reference=reference, methods=plan.methods, columns=tuple(columns),
        groups=ordered, costs=costs, memory_kind=kind, classes=classes, palette=palette,
        remarks=(*remarks, *notes), seeds=plan.seeds, family=plan.family, study=plan.study,
    )  # fmt: skip


class _Scores:
    """The scores of one column: by method and seed, and without every image where a run has its counts."""

    def __init__(self, runs: Sequence[FinishedRun], remarks: list[Remark]) -> None:
        self.runs: dict[str, dict[int, FinishedRun]] = defaultdict(dict)
        for run in sorted(runs, key=lambda r: r.cell):
            if math.isfinite(run.miou):
                self.runs[run.cell.method][run.cell.seed] = run
        self._left_out = _leave_out([run for table in self.runs.values() for run in table.values()], remarks)
        # All pairs, because the best that the others are held against is picked by the same scores.
        self._comparisons = max(1, sum(len(self._common(a, b)) > 1 for a, b in combinations(self.runs, 2)))
        several = [table for table in self.runs.values() if len(table) > 1]
        shared = sorted(set.intersection(*map(set, several))) if several else []
        self._pooled = pool(np.array([[table[k].miou for k in shared] for table in several])) if shared else None

    def of(self, method: str, seeds: Sequence[int]) -> tuple[Floats, Floats | None]:
        """Give the final mIoU by seed, (S,), and without every image, (N, S)."""
        runs = [self.runs[method][seed] for seed in seeds]
        left_out = [self._left_out.get(str(run.cell)) for run in runs]
        values = np.array([run.miou for run in runs])
        known = [scores for scores in left_out if scores is not None]
        return values, np.stack(known, axis=1) if len(known) == len(left_out) else None

    def estimate(self, method: str) -> Estimate:
        return stats.estimate(*self.of(method, list(self.runs[method])))

    def difference(self, method: str, other: str) -> Difference | None:
        """Compare two methods over common seeds, for themselves; None without any."""
        return self._compare(method, other, 1, None)

    def apart(self, method: str, best: str) -> bool:
        """Tell whether a method is not as good as the best: by the interval of the two, and among all pairs, too."""
        alone, among = self.difference(method, best), self._compare(method, best, self._comparisons, self._pooled)
        return bool(alone and among and alone.differs and among.differs)

    def _compare(self, method: str, other: str, comparisons: int, pooled: Pooled | None) -> Difference | None:
        seeds = self._common(method, other)
        if not seeds:
            return None
        (ours, our_rest), (theirs, their_rest) = self.of(method, seeds), self.of(other, seeds)
        both = (our_rest, their_rest) if our_rest is not None and their_rest is not None else None
        return stats.compare(ours, theirs, both, comparisons, pooled)

    def _common(self, method: str, other: str) -> list[int]:
        return sorted(self.runs.get(method, {}).keys() & self.runs.get(other, {}).keys())


def _leave_out(runs: Sequence[FinishedRun], remarks: list[Remark]) -> dict[str, Floats]:
    """Compute the mIoU of every run without every image: (N,) each."""
    found: dict[str, Floats] = {}
    expected: tuple[object, object] | None = None
    # One run after the other: its counts are far larger than its scores, and only these are kept.
    for run in runs:
        try:
            ids, counts = read_areas(run)
            expected = expected or (ids, counts.shape)
            if (ids, counts.shape) != expected:
                raise ValueError("scored on other images or classes than its neighbours")
            found[str(run.cell)] = leave_one_out(counts[None], run.absent)[:, 0]
        except ValueError as error:
            remarks.append(Remark(str(run.cell), f"no interval over images: {error}"))
    return found


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
    )


def _plain(values: Sequence[float]) -> Estimate | None:
    """Mean and spread of numbers without counts; None unless all are known."""
    return stats.estimate(np.array(values)) if all(map(math.isfinite, values)) else None


def _mark_ties(
    split: str, methods: Sequence[str], groups: Mapping[Key, SeedGroup], column: _Scores
) -> dict[Key, SeedGroup]:
    """Mark the best of a column and those that cannot be told from it; nobody where there is no verdict at all."""
    means = {m: group.final.mean for m in methods if (group := groups[Key(m, split)]).final is not None}
    best = max(means, key=lambda m: means[m], default="")
    differences = {m: column.difference(m, best) for m in means if m != best}
    if not any(d and d.tested for d in differences.values()):
        return {}
    tied = [best, *(m for m in differences if not column.apart(m, best))]
    return {Key(m, split): replace(groups[Key(m, split)], tied=True) for m in tied}


def _column(split: str, runs: Sequence[FinishedRun], column: _Scores) -> Column:
    pairs = [column.difference(a, b) for a, b in combinations(sorted(column.runs), 2)]
    split_record = runs[0].record["split"] if runs else {}
    labelled, unlabelled = split_record.get("labelled", 0), split_record.get("unlabelled", 0)
    # Nobody knows how many images a stream has.
    share = labelled / (labelled + unlabelled) if labelled and unlabelled is not None else math.nan
    widths = stats.half_widths([pair for pair in pairs if pair])
    return Column(split, labelled or None, share, widths, runs[0].draws if runs else None)


def _legend(runs: Sequence[FinishedRun]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Class names and colours; empty without runs."""
    if not runs:
        return (), ()
    record = runs[0].record["dataset"]
    return tuple(record["classes"]), tuple(tuple(colour) for colour in record["palette"])
