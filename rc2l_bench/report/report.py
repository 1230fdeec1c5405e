"""Build a report from finished runs; needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TypeVar

from rc2l_bench.config import Params
from rc2l_bench.errors import UsageError, suggest
from rc2l_bench.report.ablation_table import plan_families
from rc2l_bench.report.comparability import screen
from rc2l_bench.report.comparison import Plan, Section, compare_runs
from rc2l_bench.report.merging import choose_one_per_cell, gather
from rc2l_bench.report.results import Cell, FinishedRun, Remark
from rc2l_bench.report.tuning_table import list_outdated
from rc2l_bench.variants import base_of, variant_of

T = TypeVar("T")

DEFAULT_REFERENCE = "supervised"
_SEEDS_SHOWN = 10


@dataclass(frozen=True)
class Report:
    """All that is shown.

    Attributes:
        sections: first the datasets of the declared grid, then what lies on disk outside it, then variants.
        remarks: what is missing, broken, or not comparable.
        runs: all runs that could be read, in the order of their cells.
        compared: the cells among them whose numbers are in the tables.
        declared: the cells of the grid.
        reference: the method that differences are taken against.
    """

    sections: tuple[Section, ...]
    remarks: tuple[Remark, ...]
    runs: tuple[FinishedRun, ...]
    compared: frozenset[Cell]
    declared: tuple[Cell, ...]
    reference: str

    @property
    def missing(self) -> int:
        """Number of declared cells whose numbers are not in the tables."""
        return len(set(self.declared) - self.compared)

    def status(self, cell: Cell) -> str:
        """Say what became of a cell: `ok`, `no mIoU`, `set aside`, or `missing`."""
        if cell in self.compared:
            return "ok"
        run = self._by_cell.get(cell)
        if run is None:
            return "missing"
        return "set aside" if math.isfinite(run.miou) else "no mIoU"

    @cached_property
    def _by_cell(self) -> dict[Cell, FinishedRun]:
        return {run.cell: run for run in self.runs}


def build(root: Path, params: Params, reference: str | None = None, more: Sequence[Path] = ()) -> Report:
    """Read the runs and compute the tables.

    Args:
        root: folder of the runs, `<dataset>/<split>/<method id>/seed<k>`; it may be missing.
        params: gives the declared grid and the protocols.
        reference: a method id or a unique tail of one; None takes `supervised`, else the grid's first method.
        more: further folders like it, of other machines; where they have different runs of a cell, one is shown.

    Raises:
        UsageError: the reference is no method of the grid or of a run.
        BenchError: two runs have the same fingerprint and different numbers.
    """
    found, broken = gather([root, *more])
    declared = tuple(
        Cell(*cell) for cell in product(params.grid.dataset, params.grid.split, params.grid.method, params.grid.seed)
    )
    # Before anything is computed, so that a misspelt reference is told at once.
    methods = list(dict.fromkeys([*params.grid.method, *(run.cell.method for run in found)]))
    chosen = choose_reference(reference, methods)
    # All runs together: what lies outside of the grid is measured like the rest, and may not be compared if it differs.
    comparable, aside = screen(found, params)
    comparable = [run for run in comparable if math.isfinite(run.miou)]
    runs, hidden = choose_one_per_cell(found, comparable)
    shown = {id(run) for run in runs}
    kept = [run for run in comparable if id(run) in shown]
    # Variants have sections of their own. Among the methods each of them would be one more for all intervals to pay
    # for.
    inside, outside = _part([run for run in kept if not variant_of(run.cell.method)], set(declared))
    plans = [(plan, _of(plan, inside)) for plan in _declared_plans(params)]
    plans += [(plan, _of(plan, outside)) for plan in _other_plans(outside)]
    plans += plan_families(kept, params)
    sections = [compare_runs(plan, mine, _reference(plan, chosen)) for plan, mine in plans]
    remarks = [
        *broken,
        *aside,
        *hidden,
        *_carried(runs),
        *(r for dataset in dict.fromkeys(run.cell.dataset for run in kept) for r in list_outdated(dataset, params)),
        *(r for section in sections for r in (*section.remarks, *_missing(section))),
    ]
    # From the sections, not from `kept`: what no table shows is not compared.
    compared = frozenset(run.cell for section in sections for run in section.runs)
    return Report(tuple(sections), tuple(dict.fromkeys(remarks)), tuple(runs), compared, declared, chosen)


def choose_reference(name: str | None, methods: Sequence[str]) -> str:
    """Choose the method that differences are taken against, by its id or a tail of it.

    Args:
        name: what the user asked for; None = `supervised`, else the first method.
        methods: ids of the grid and of the runs.

    Raises:
        UsageError: none or several methods end so.
    """
    wanted = name or DEFAULT_REFERENCE
    found = [m for m in methods if m == wanted] or [m for m in methods if f"/{m}".endswith(f"/{wanted}")]
    if len(found) == 1:
        return found[0]
    if name is None:  # nobody asked for `supervised`, so that it is missing is no error
        return methods[0]
    if found:
        raise UsageError(f"--reference {name}: could be {' or '.join(found)}: give more of its id")
    raise UsageError(f"--reference {name}: no such method in the grid or among the runs; {suggest(name, methods)}")


def _reference(plan: Plan, chosen: str) -> str:
    """Choose the reference of a plan: variants are compared with their method, unless one of them is chosen."""
    return chosen if chosen in plan.methods else plan.family or base_of(chosen)


def _carried(runs: Sequence[FinishedRun]) -> list[Remark]:
    """Remark on runs that somebody took over from another fingerprint, each with the reason."""
    return [
        Remark(str(run.cell), f"carried over from {str(entry.get('fingerprint'))[:12]}: {entry.get('reason')}")
        for run in runs
        if isinstance(carried := run.record.get("carried"), list)
        for entry in carried
        if isinstance(entry, dict)
    ]


def _missing(section: Section) -> list[Remark]:
    """Remark on declared runs without a result, once for each group."""
    gaps = {key: group.missing for key, group in section.groups.items() if group.missing}
    return [
        Remark(f"{section.dataset}/{split}/{method}", f"no result for {_seeds(seeds)}")
        for (method, split), seeds in gaps.items()
    ]


def _seeds(seeds: Sequence[int]) -> str:
    shown = ", ".join(str(seed) for seed in seeds[:_SEEDS_SHOWN])
    more = f" and {len(seeds) - _SEEDS_SHOWN} more" if len(seeds) > _SEEDS_SHOWN else ""
    return f"seed{'s' if len(seeds) > 1 else ''} {shown}{more}"


def _part(runs: Sequence[FinishedRun], declared: set[Cell]) -> tuple[list[FinishedRun], list[FinishedRun]]:
    inside = [run for run in runs if run.cell in declared]
    return inside, [run for run in runs if run.cell not in declared]


def _of(plan: Plan, runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    return [run for run in runs if run.cell.dataset == plan.dataset]


def _declared_plans(params: Params) -> list[Plan]:
    methods, splits, seeds = _unique(params.grid.method), _unique(params.grid.split), _unique(params.grid.seed)
    return [Plan(dataset, True, methods, splits, seeds) for dataset in _unique(params.grid.dataset)]


def _unique(values: Sequence[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _other_plans(runs: Sequence[FinishedRun]) -> list[Plan]:
    """Plan sections for what lies outside the grid, by dataset; splits in the order of their labels."""
    plans = []
    for dataset in _unique([run.cell.dataset for run in runs]):
        mine = [run for run in runs if run.cell.dataset == dataset]
        methods = tuple(sorted({run.cell.method for run in mine}))
        splits = _unique([run.cell.split for run in sorted(mine, key=_labels)])
        plans.append(Plan(dataset, False, methods, splits, tuple(sorted({run.cell.seed for run in mine}))))
    return plans


def _labels(run: FinishedRun) -> tuple[int, str]:
    return run.record["split"]["labelled"], run.cell.split
