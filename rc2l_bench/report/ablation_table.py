"""Variants of one method: the part of a report that shows what each of them changes and what that does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rc2l_bench.config import Grid, Params
from rc2l_bench.recipes import overlay
from rc2l_bench.report.comparison import Plan, Section
from rc2l_bench.report.results import FinishedRun
from rc2l_bench.variants import base_of, method_of, variant_of


class Settings(NamedTuple):
    """What the methods of a section are set to differently.

    Attributes:
        names: keys of the configuration, as `weights.rmc`; those of the protocol begin with `protocol`.
        by_method: the values of every method, in the order of the names; empty text where a method has no such key.
    """

    names: tuple[str, ...]
    by_method: Mapping[str, tuple[str, ...]]


def plan_families(runs: Sequence[FinishedRun], params: Params) -> list[tuple[Plan, list[FinishedRun]]]:
    """Plan the sections of the variants that were run: those of the studies, then what belongs to none of them.

    Args:
        runs: all that can be compared.
        params: its studies say which variants belong together, and in which order.
    """
    datasets = dict.fromkeys(run.cell.dataset for run in runs)
    studies = [
        found for d in datasets for name, grid in params.ablation.items() if (found := _study(name, grid, d, runs))
    ]
    placed = {(plan.dataset, method) for plan, _ in studies for method in plan.methods}
    rest = [run for run in runs if variant_of(run.cell.method) and (run.cell.dataset, run.cell.method) not in placed]
    families = dict.fromkeys((run.cell.dataset, base_of(run.cell.method)) for run in rest)
    return studies + [_family(dataset, base, runs, rest) for dataset, base in families]


def _study(name: str, grid: Grid, dataset: str, runs: Sequence[FinishedRun]) -> tuple[Plan, list[FinishedRun]] | None:
    """Plan a study on a dataset; None where no variant of it was run."""
    wanted = [method_of(method) for method in grid.method]
    related = [run for run in runs if run.cell.dataset == dataset and run.cell.method in wanted]
    if not any(variant_of(run.cell.method) for run in related):
        return None
    return _plan(dataset, base_of(wanted[0]), wanted, related, name)


def _family(
    dataset: str, base: str, runs: Sequence[FinishedRun], rest: Sequence[FinishedRun]
) -> tuple[Plan, list[FinishedRun]]:
    """Plan a section of the variants of a method that are in no study, with the method itself beside them."""
    variants = sorted({run.cell.method for run in rest if base_of(run.cell.method) == base})
    order = [base, *variants]
    related = [run for run in runs if run.cell.dataset == dataset and run.cell.method in order]
    return _plan(dataset, base, order, related, "")


def _plan(
    dataset: str, base: str, order: Sequence[str], related: Sequence[FinishedRun], study: str
) -> tuple[Plan, list[FinishedRun]]:
    """Plan a section of the methods of an order that were run, on the splits that a variant was run on."""
    splits = tuple(dict.fromkeys(run.cell.split for run in related if variant_of(run.cell.method)))
    mine = [run for run in related if run.cell.split in splits]
    present = {run.cell.method for run in mine}
    methods = tuple(method for method in order if method in present)
    seeds = tuple(sorted({run.cell.seed for run in mine}))
    return Plan(dataset, False, methods, splits, seeds, base, study), mine


def settings(section: Section) -> Settings:
    """Find what the variants of a section are set to differently; nothing for a section of methods."""
    if not section.family:
        return Settings((), dict.fromkeys(section.methods, ()))
    changed = {key for run in section.runs for key, _ in _flatten(_changes(run))}
    configs = {run.cell.method: _values(run, changed) for run in section.runs}
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    differing = tuple(key for key in keys if len({config.get(key, "") for config in configs.values()}) > 1)
    return Settings(differing, {m: tuple(config.get(k, "") for k in differing) for m, config in configs.items()})


def _changes(run: FinishedRun) -> dict[str, Any]:
    """Give what the variant of a run changes of the protocol."""
    changes = run.record.get("protocol_changes")
    return changes if isinstance(changes, dict) else {}


def _values(run: FinishedRun, changed: set[str]) -> dict[str, str]:
    """Give a run's configuration, and of its protocol what some variant changes."""
    protocol = dict(_flatten(overlay(run.record["protocol"], _changes(run))))
    mine = {f"protocol.{key}": value for key, value in protocol.items() if key in changed}
    return {**dict(_flatten(run.record["method_config"])), **mine}


def _flatten(config: Any, path: str = "") -> list[tuple[str, str]]:  # noqa: ANN401 - JSON
    """Give the leaves of nested dictionaries as text."""
    if isinstance(config, dict):
        return [leaf for key, value in config.items() for leaf in _flatten(value, f"{path}.{key}" if path else key)]
    return [(path, f"{config:g}" if isinstance(config, float) else str(config))]
