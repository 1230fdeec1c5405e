"""Compare memory and time of methods, as their runs measured them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rc2l_bench.report.results import FinishedRun, Remark, number


@dataclass(frozen=True)
class Cost:
    """Needs of a method, the median over its runs in a section; nan where unknown.

    Attributes:
        memory_mb: peak, MiB, of the kind that `Section.memory_kind` names.
        step_ms: median time of a step, milliseconds.
        seconds: of a whole training run with its evaluations.
        parameters: number of those that are deployed.
        memory_ratio: memory as a multiple of the reference's.
        time_ratio: step time as a multiple of the reference's.
    """

    memory_mb: float
    step_ms: float
    seconds: float
    parameters: float
    memory_ratio: float = math.nan
    time_ratio: float = math.nan


def compare_costs(
    methods: Sequence[str], runs: Sequence[FinishedRun], reference: str
) -> tuple[dict[str, Cost], str, list[Remark]]:
    """Compare what every method with a run needs.

    Args:
        methods: ids, in the order of the table.
        runs: of a section.
        reference: id of the method that multiples are of; without a run of it they are nan.

    Returns:
        The costs by method; the kind of memory, `allocated` where every run measured it, else `resident`; a remark
        where machines differ.
    """
    peaks = [run.cost.get("peak_memory") for run in runs]
    # One kind for all: allocated and resident memory side by side would compare methods by how they were measured.
    kind = "allocated_mb" if peaks and all(math.isfinite(number(p, "allocated_mb")) for p in peaks) else "resident_mb"
    raw = {m: mine for m in methods if (mine := [run for run in runs if run.cell.method == m])}
    plain = {m: _cost(mine, kind) for m, mine in raw.items()}
    base = plain.get(reference)
    costs = {m: _relative(cost, base) for m, cost in plain.items()} if base else plain
    # Times of different machines are shown all the same, with a remark: they may still tell minutes from hours.
    machines = Counter(str(run.record.get("hardware")) + str(run.cost.get("device")) for run in runs)
    text = f"runs come from {len(machines)} kinds of machine: their times and memory are not comparable"
    remarks = [Remark(runs[0].cell.dataset, text)] if len(machines) > 1 else []
    return costs, kind.removesuffix("_mb"), remarks


def _cost(runs: Sequence[FinishedRun], kind: str) -> Cost:
    # Medians, because one run in a busy hour must not speak for its method.
    def middle(*keys: str) -> float:
        values = [v for run in runs if math.isfinite(v := number(run.cost, *keys))]
        return median(values) if values else math.nan

    step = middle("step_seconds", "median") * 1000
    return Cost(middle("peak_memory", kind), step, middle("seconds"), middle("parameters", "deployed"))


def _relative(cost: Cost, base: Cost) -> Cost:
    memory = cost.memory_mb / base.memory_mb if base.memory_mb else math.nan
    time = cost.step_ms / base.step_ms if base.step_ms else math.nan
    return Cost(cost.memory_mb, cost.step_ms, cost.seconds, cost.parameters, memory, time)
