"""What `rc2l-bench run` would do with cells, why, and what it would take; nothing is trained or written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rc2l_bench.config import TUNING, Params, stated
from rc2l_bench.data.datasets.registry import render_inputs
from rc2l_bench.errors import BenchError
from rc2l_bench.report.results import FinishedRun, find, number
from rc2l_bench.run.cell import vary_protocol
from rc2l_bench.run.pipeline import Stage, cell_stages, open_present_cell
from rc2l_bench.run.store import STORE, Run
from rc2l_bench.seals import RECORD, read_record
from rc2l_bench.tuning import chosen_for, digest_inputs, read_tuned
from rc2l_bench.variants import base_of, protocol_changes

State = Literal["up to date", "in the store", "continues", "stale", "new"]

PARTS = {
    "source": "code", "method_config": "method", "tuning": "tuning", "protocol": "protocol", "runtime": "runtime",
    "protocol_changes": "variant's protocol", "split": "labels", "shards": "data", "pool": "pool",
    "audited": "audited labels", "dataset": "classes", "weights": "initial weights", "versions": "versions",
    "corruptions": "corruptions",
}  # fmt: skip
"""Parts of a fingerprint, and what a reader calls them."""
SHOWN = 3
"""Values of one part that are named."""
DIGEST = 64
"""Signs of a sha256, which tells a reader nothing."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What would become of a cell.

    Attributes:
        item: dataset, split, method and seed.
        state: of its result; only the last three are trained.
        reasons: why, each in a few words.
        seconds: of the training that is left, by earlier runs; nan = unknown.
        memory_mb: at its peak, MiB, by earlier runs; nan = unknown.
    """

    item: Mapping[str, str]
    state: State
    reasons: list[str]
    seconds: float
    memory_mb: float

    @property
    def trains(self) -> bool:
        """Whether there is something to train."""
        return self.state in ("continues", "stale", "new")


def forecast_cells(items: Sequence[Mapping[str, str]], params: Params, results: Path = Path("runs")) -> list[Forecast]:
    """Look at cells as `rc2l-bench run` would.

    Args:
        items: the cells.
        params: of the checkout.
        results: where earlier runs lie, whose costs are taken.

    Raises:
        UsageError: a configuration is wrong.
    """
    runs, _ = find(results)
    return [_forecast(item, params, runs) for item in items]


def longest_first(
    items: Sequence[dict[str, str]], params: Params, results: Path = Path("runs")
) -> list[dict[str, str]]:
    """Order cells such that trainings side by side end at about the same time.

    Args:
        items: the cells.
        params: of the checkout.
        results: where earlier runs lie, whose costs are taken.

    Returns:
        The cells, that which takes longest first; before it those of unknown length, which may take longer still.
        Cells of one length keep their order.
    """
    runs, _ = find(results)
    return sorted(items, key=lambda item: -_whole_training(item, params, runs))


def _whole_training(item: Mapping[str, str], params: Params, runs: Sequence[FinishedRun]) -> float:
    """Seconds of a training from its first step; infinity = unknown."""
    seconds = _steps(item, params) * seconds_per_step(_alike(item, runs), item["dataset"], item["method"], params)
    return math.inf if math.isnan(seconds) else seconds


def _steps(item: Mapping[str, str], params: Params) -> int:
    method = item["method"]
    return vary_protocol(params.protocol_of(item["dataset"]), protocol_changes(method), method).steps


def _alike(item: Mapping[str, str], runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Runs of the method, in whatever variant, on the data set of a cell."""
    wanted = item["dataset"], base_of(item["method"])
    return [run for run in runs if (run.cell.dataset, base_of(run.cell.method)) == wanted]


def _forecast(item: Mapping[str, str], params: Params, runs: Sequence[FinishedRun]) -> Forecast:
    state, reasons, done = _look(item, cell_stages(item))
    left = max(0, _steps(item, params) - done) if state in ("continues", "stale", "new") else 0
    mine = _alike(item, runs)
    seconds = left * seconds_per_step(mine, item["dataset"], item["method"], params) if left else 0.0
    memory = max(filter(math.isfinite, map(_memory, mine)), default=math.nan)
    return Forecast(item=item, state=state, reasons=reasons, seconds=seconds, memory_mb=memory)


def _look(item: Mapping[str, str], stages: Sequence[Stage]) -> tuple[State, list[str], int]:
    """State of a cell, reasons for it, and steps that are done."""
    due = [stage.name for stage in stages[:-1] if not _is_fresh(stage, item["dataset"])]
    if not all(out.exists() for stage in stages[:-1] for out in stage.outs):
        return "new", [f"data first: {', '.join(due)}"], 0
    present, reasons = _provenance(item)
    before, fault = _result(stages[-1].outs[0])
    reasons += [f"stages first: {', '.join(due)}"] if due else []
    if present is None:
        return "stale", reasons, 0
    run = Run(STORE, present["fingerprint"])
    if before and before.get("fingerprint") == run.name:
        return "up to date", reasons, 0
    reasons = [*(differences(before, present) if before else [fault] if fault else []), *reasons]
    if run.complete:
        return "in the store", reasons, 0
    if done := run.newest_step:
        return "continues", [f"after step {done:,}", *reasons], done
    return ("stale" if before or fault else "new"), reasons, 0


def _is_fresh(stage: Stage, dataset: str) -> bool:
    """Tell whether a stage would change nothing; that of the user's files is compared with the files."""
    if not stage.always:
        return stage.fresh()
    return stage.outs[0].is_file() and stage.outs[0].read_bytes() == render_inputs(dataset)


def _provenance(item: Mapping[str, str]) -> tuple[dict[str, Any] | None, list[str]]:
    """What would name the run; None and why where the data do not fit one another."""
    try:
        return open_present_cell(item).provenance(), []
    except BenchError as error:
        if error.exit_code != BenchError.exit_code:  # wrong use: a configuration that no run begins with
            raise
        return None, [str(error)]


def _result(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """run.json of the last run in a place; None and what is wrong with it where it cannot be read."""
    if not (folder / RECORD).is_file():
        return None, ""
    try:
        return read_record(folder)[0], ""
    except (BenchError, OSError) as error:
        return None, f"its result is damaged ({error})"


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name the parts of a fingerprint that differ, with the values that do.

    Args:
        before: run.json of the last run.
        now: provenance of the next one.
    """
    changed = [part for part in PARTS if before.get(part) != now.get(part)]
    return [f"{PARTS[part]}{_values(before.get(part), now.get(part))}" for part in changed]


def _values(before: Any, now: Any) -> str:  # noqa: ANN401 - JSON values
    old, new = dict(_leaves(before)), dict(_leaves(now))
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    told = [_change(name, old.get(name), new.get(name)) for name in changed[:SHOWN]]
    more = f", and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    text = ", ".join(filter(None, told)) + more
    return f" ({text})" if text else ""


def _change(name: str, old: Any, new: Any) -> str:  # noqa: ANN401 - JSON values
    if len(str(old)) == DIGEST or len(str(new)) == DIGEST:
        return name
    return f"{name} {old} → {new}".strip()


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - JSON values
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{path}.{key}" if path else str(key))


def seconds_per_step(runs: Sequence[FinishedRun], dataset: str, method: str, params: Params) -> float:
    """Seconds of a training, evaluations included, divided by its steps: the median of runs of the method.

    Args:
        runs: of the method on the data set.
        dataset: its name.
        method: id.
        params: of the checkout.

    Returns:
        Without runs, the mean over the trials of tuning; nan where there are none either, or of another protocol.
    """
    costs = [(number(run.cost, "seconds"), number(run.cost, "steps")) for run in runs]
    if known := [seconds / steps for seconds, steps in costs if seconds >= 0 and steps >= 1]:
        return median(known)
    tuned, settings = chosen_for(base_of(method), dataset), read_tuned(dataset)
    if tuned is None or settings is None:
        return math.nan
    protocol = params.protocol_of(f"{TUNING}{dataset}")
    # Trials of another protocol took another time.
    same = tuned.inputs == digest_inputs(base_of(method), settings.settings, stated(protocol))
    return tuned.seconds / tuned.trials / protocol.steps if same else math.nan


def _memory(run: FinishedRun) -> float:
    """Peak of a run, MiB: torch's own allocations where they are known, as in the table of results."""
    peaks = (number(run.cost, "peak_memory", name) for name in ("allocated_mb", "resident_mb"))
    return next(filter(math.isfinite, peaks), math.nan)
