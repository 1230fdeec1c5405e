"""Equal tuning in a report: what was searched, how the trials scored, and what a smaller budget would have found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from rc2l_bench.config import TUNING, Params, stated
from rc2l_bench.errors import BenchError
from rc2l_bench.report.results import Remark
from rc2l_bench.tuning import LEARNING_RATE, Trial, Tuned, digest_inputs, read_trials, read_tuned


class TuningRow(NamedTuple):
    """The trials of one method.

    Attributes:
        method: id.
        numbers: what was chosen, as text: `lr 0.004, weight 1.2`.
        space: what was searched, as text: `lr 0.0005 to 0.016`.
        trials: how many.
        diverged: how many of them had a loss that was not finite.
        best: mIoU on the tuning images, 0..1.
        median: likewise.
        worst: likewise.
        hours: of training, all trials together.
    """

    method: str
    numbers: str
    space: str
    trials: int
    diverged: int
    best: float
    median: float
    worst: float
    hours: float


class TuningSummary(NamedTuple):
    """What tuning did for a data set.

    Attributes:
        dataset: name.
        split: labelled images of the trials.
        sampler: how numbers were drawn.
        budget: share of the protocol's steps that a trial had.
        rows: one for each method, as in the file.
        trials: all of them, by method.
    """

    dataset: str
    split: str
    sampler: str
    budget: float
    rows: tuple[TuningRow, ...]
    trials: dict[str, list[Trial]]


def summarise_tuning(dataset: str) -> tuple[TuningSummary | None, list[Remark]]:
    """Read what `rc2l-bench tune` wrote for a data set.

    Returns:
        None where it was never tuned; what is wrong with the files.
    """
    try:
        tuned, trials = read_tuned(dataset), read_trials(dataset)
    except BenchError as error:
        return None, [Remark(f"tuning of {dataset}", str(error))]
    if tuned is None or not trials:
        return None, []
    by_method = {method: [trial for trial in trials if trial.method == method] for method in tuned.methods}
    rows = tuple(_row(method, tuned, mine) for method, mine in by_method.items() if mine)
    settings = tuned.settings
    return TuningSummary(dataset, settings.split, settings.sampler, settings.budget, rows, by_method), []


def list_outdated(dataset: str, params: Params) -> list[Remark]:
    """Say of which methods protocol, numbers or ranges have changed since a data set was tuned."""
    where = f"tuning of {dataset}"
    try:
        tuned, config = read_tuned(dataset), params.tuning_of(dataset)
        protocol = stated(params.protocol_of(f"{TUNING}{dataset}"))
        chosen = tuned.methods if tuned else {}
        changed = [name for name, found in chosen.items() if digest_inputs(name, config, protocol) != found.inputs]
    except BenchError as error:
        return [Remark(where, str(error))]
    return [Remark(where, f"{name}: protocol, numbers or ranges have changed since: tune again") for name in changed]


def _row(method: str, tuned: Tuned, trials: Sequence[Trial]) -> TuningRow:
    chosen, scores = tuned.methods[method], [trial.miou for trial in trials]
    numbers = ", ".join(f"{name} {value:g}" for name, value in chosen.numbers.items())
    tried = {name: [trial.numbers[name] for trial in trials] for name in chosen.numbers}
    space = ", ".join(f"{name} {min(values):g} to {max(values):g}" for name, values in tried.items())
    return TuningRow(
        method, numbers, space, len(trials), chosen.diverged, max(scores), median(scores), min(scores),
        chosen.seconds / 3600,
    )  # fmt: skip


def expected_best(scores: Sequence[float]) -> list[float]:
    """The expected best score of n of the trials, for n = 1, 2, ..., all of them.

    The mean over all subsets of n trials, in closed form: the k-th smallest of N scores is the best of
    C(k − 1, n − 1) of the C(N, n) subsets (Tang et al., ACL 2020, correcting Dodge et al., EMNLP 2019).

    Args:
        scores: of all trials, in any order.
    """
    ordered, count = sorted(scores), len(scores)
    return [
        sum(math.comb(k - 1, n - 1) * score for k, score in enumerate(ordered, start=1)) / math.comb(count, n)
        for n in range(1, count + 1)
    ]


def learning_rates(trials: Sequence[Trial]) -> list[tuple[float, float]]:
    """Learning rate and score of every trial, by rising rate."""
    return sorted((trial.numbers[LEARNING_RATE], trial.miou) for trial in trials)
