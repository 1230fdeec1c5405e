"""Variants of one method: the part of a report that shows what each of them changes and what that does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rc2l_bench.config import Params
from rc2l_bench.report.comparison import Plan, Section
from rc2l_bench.report.results import FinishedRun
from rc2l_bench.variants import base_of, variant_of


class Settings(NamedTuple):
    """What the methods of a section are set to differently.

    Attributes:
        names: keys of the configuration, as `weights.rmc`.
        by_method: the values of every method, in the order of the names; empty text where a method has no such key.
    """

    names: tuple[str, ...]
    by_method: Mapping[str, tuple[str, ...]]


def plan_families(runs: Sequence[FinishedRun], params: Params) -> list[tuple[Plan, list[FinishedRun]]]:
    """The sections of the variants that were run: for every dataset and method, with the method itself beside them.

    Args:
        runs: all that can be compared.
        params: its ablation gives the order of the rows.
    """
    found = dict.fromkeys((run.cell.dataset, base_of(run.cell.method)) for run in runs if variant_of(run.cell.method))
    return [_plan(dataset, base, runs, params.ablation.method) for dataset, base in found]


def _plan(dataset: str, base: str, runs: Sequence[FinishedRun], order: Sequence[str]) -> tuple[Plan, list[FinishedRun]]:
    related = [run for run in runs if run.cell.dataset == dataset and base_of(run.cell.method) == base]
    splits = tuple(dict.fromkeys(run.cell.split for run in related if variant_of(run.cell.method)))
    mine = [run for run in related if run.cell.split in splits]
    present = sorted({run.cell.method for run in mine})
    methods = tuple([m for m in order if m in present] + [m for m in present if m not in order])
    seeds = tuple(sorted({run.cell.seed for run in mine}))
    return Plan(dataset, False, methods, splits, seeds, base), mine


def settings(section: Section) -> Settings:
    """What the variants of a section are set to differently; nothing for a section of methods."""
    if not section.family:
        return Settings((), dict.fromkeys(section.methods, ()))
    configs = {run.cell.method: dict(_flatten(run.record["method_config"])) for run in section.runs}
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    differing = tuple(key for key in keys if len({config.get(key, "") for config in configs.values()}) > 1)
    return Settings(differing, {m: tuple(config.get(k, "") for k in differing) for m, config in configs.items()})


def _flatten(config: Any, path: str = "") -> list[tuple[str, str]]:  # noqa: ANN401 - JSON
    """Leaves of nested dictionaries as text."""
    if isinstance(config, dict):
        return [leaf for key, value in config.items() for leaf in _flatten(value, f"{path}.{key}" if path else key)]
    return [(path, f"{config:g}" if isinstance(config, float) else str(config))]
