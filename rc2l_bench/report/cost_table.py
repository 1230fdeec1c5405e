"""Compare memory and time of methods, as their runs measured them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
        machine: the kind of hardware that all of it was measured on.
        memory_ratio: memory as a multiple of the reference's.
        time_ratio: step time as a multiple of the reference's.
    """

    memory_mb: float
    step_ms: float
    seconds: float
    parameters: float
    machine: str
    memory_ratio: float = math.nan
    time_ratio: float = math.nan


def compare_costs(
    methods: Sequence[str], runs: Sequence[FinishedRun], reference: str
) -> tuple[dict[str, Cost], str, list[Remark]]:
    """Compare what every method with a run needs, within one kind of hardware.

    Args:
        methods: ids, in the order of the table.
        runs: of a section.
        reference: id of the method that multiples are of; without a run of it they are nan.

    Returns:
        The costs by method, of the reference's hardware, or of the method's own where it has no run on that; the kind
        of memory, `allocated` where every run measured it, else `resident`; a remark where hardware differs.
    """
    peaks = [run.cost.get("peak_memory") for run in runs]
    # One kind for all: allocated and resident memory side by side would compare methods by how they were measured.
    kind = "allocated_mb" if peaks and all(math.isfinite(number(p, "allocated_mb")) for p in peaks) else "resident_mb"
    raw = {m: mine for m in methods if (mine := [(machine_of(run), run) for run in runs if run.cell.method == m])}
    machines = Counter(machine for mine in raw.values() for machine, _ in mine)
    main = _commonest(Counter(machine for machine, _ in raw.get(reference, [])) or machines)
    plain = {m: _cost_on(main, mine, kind) for m, mine in raw.items()}
    base = plain.get(reference)
    costs = {m: _relative(cost, base) for m, cost in plain.items()} if base else plain
    text = f"runs come from {len(machines)} kinds of hardware: memory and time are compared within one kind only"
    remarks = [Remark(runs[0].cell.dataset, text)] if len(machines) > 1 else []
    return costs, kind.removesuffix("_mb"), remarks


def machine_of(run: FinishedRun) -> str:
    """Name the kind of hardware that memory and time of a run were measured on."""
    hardware, runtime = run.record.get("hardware"), run.record.get("runtime")
    facts = hardware if isinstance(hardware, dict) else {}
    devices = number(run.cost, "devices")
    several = f", {devices:.0f} devices" if devices > 1 else ""
    if facts.get("gpu"):
        return f"{facts['gpu']}{several}"
    parts = [str(facts.get("cpu") or facts.get("machine") or "unknown hardware")]
    counts = {"core": number(facts, "cores"), "thread": number(runtime, "threads")}
    parts += [f"{n:.0f} {name}{'s' if n > 1 else ''}" for name, n in counts.items() if math.isfinite(n)]
    return ", ".join(parts) + several


def _commonest(machines: Counter[str]) -> str:
    return min(machines, key=lambda name: (-machines[name], name), default="")


def _cost_on(main: str, runs: Sequence[tuple[str, FinishedRun]], kind: str) -> Cost:
    """Take a method's cost on the main hardware; on its own commonest where it has no run there."""
    counts = Counter(machine for machine, _ in runs)
    chosen = main if main in counts else _commonest(counts)
    return _cost([run for machine, run in runs if machine == chosen], kind, chosen)


def _cost(runs: Sequence[FinishedRun], kind: str, machine: str) -> Cost:
    # Medians, because one run in a busy hour must not speak for its method.
    def middle(*keys: str) -> float:
        values = [v for run in runs if math.isfinite(v := number(run.cost, *keys))]
        return median(values) if values else math.nan

    step = middle("step_seconds", "median") * 1000
    return Cost(middle("peak_memory", kind), step, middle("seconds"), middle("parameters", "deployed"), machine)


def _relative(cost: Cost, base: Cost) -> Cost:
    if cost.machine != base.machine:
        return cost
    memory = cost.memory_mb / base.memory_mb if base.memory_mb else math.nan
    time = cost.step_ms / base.step_ms if base.step_ms else math.nan
    return replace(cost, memory_ratio=memory, time_ratio=time)
