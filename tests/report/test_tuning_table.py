"""What a report says of equal tuning, by hand and by counting subsets."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import tiny_data

from rc2l_bench.config import Params, load
from rc2l_bench.report.tuning_table import expected_best, learning_rates, list_outdated, summarise_tuning
from rc2l_bench.tuning import read_trials, read_tuned


@pytest.fixture(autouse=True)
def _checkout(monkeypatch) -> None:
    monkeypatch.chdir(tiny_data.ROOT)


def params(lr: float | None = None) -> Params:
    found = load(Params, Path("params.yaml"))
    if lr is not None:
        shapes = found.protocol["shapes"]
        changed = shapes.model_copy(update={"optimiser": shapes.optimiser.model_copy(update={"lr": lr})})
        found = found.model_copy(update={"protocol": found.protocol | {"shapes": changed}})
    return found


@pytest.mark.parametrize("scores", [[0.3], [0.1, 0.4], [0.5, 0.2, 0.2, 0.9, 0.4]])
def test_the_expected_best_is_the_mean_over_all_subsets(scores):
    counted = []
    for n in range(1, len(scores) + 1):
        best = [max(subset) for subset in itertools.combinations(scores, n)]
        counted.append(sum(best) / len(best))
    assert expected_best(scores) == pytest.approx(counted)


COMMITTED = pytest.mark.parametrize(
    "dataset", [path.stem for path in sorted((tiny_data.ROOT / "tuned").glob("*.yaml"))]
)


@COMMITTED
def test_a_committed_tuning_is_that_of_its_trials(dataset):
    summary, wrong = summarise_tuning(dataset)
    tuned, trials = read_tuned(dataset), read_trials(dataset)
    assert wrong == []
    assert {row.method for row in summary.rows} == set(tuned.methods)
    for row in summary.rows:
        mine = [trial for trial in trials if trial.method == row.method]
        best = max(mine, key=lambda trial: trial.miou)
        assert (row.trials, row.best) == (tuned.settings.trials, best.miou)
        assert dict(best.numbers) == tuned.methods[row.method].numbers


@COMMITTED
def test_every_method_was_tried_with_the_same_learning_rates(dataset):
    summary, _ = summarise_tuning(dataset)
    tried = [[rate for rate, _ in learning_rates(trials)] for trials in summary.trials.values()]
    assert all(rates == tried[0] for rates in tried)


@COMMITTED
def test_a_committed_tuning_is_of_the_committed_numbers(dataset):
    assert list_outdated(dataset, params()) == []


def test_a_protocol_that_has_changed_since_is_remarked_for_every_method():
    remarks = list_outdated("shapes", params(lr=5.0e-3))
    assert len(remarks) == len(read_tuned("shapes").methods)
    assert all("have changed since: tune again" in remark.text for remark in remarks)


def test_a_data_set_that_was_never_tuned_has_nothing_to_say(tmp_path, monkeypatch):
    here = params()
    monkeypatch.chdir(tmp_path)  # where nothing was tuned
    assert (summarise_tuning("shapes"), list_outdated("shapes", here)) == ((None, []), [])
