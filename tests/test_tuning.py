"""The space that is searched, the files of what was chosen, and how the chosen numbers reach a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_data

from rc2l_bench.config import Params, load, stated
from rc2l_bench.errors import UsageError
from rc2l_bench.schema import check
from rc2l_bench.tuning import (
    Range,
    Trial,
    TunedMethod,
    TuningConfig,
    chosen_for,
    digest_inputs,
    digest_trials,
    read_trials,
    read_tuned,
    space_of,
    write_tuned,
)
from rc2l_bench.variants import find_methods, read_config

SETTINGS = TuningConfig.model_validate_json(json.dumps(tiny_data.TUNING))


def chosen(**numbers: float) -> TunedMethod:
    return TunedMethod(numbers=numbers, score=0.5, trials=2, diverged=0, seconds=3.0, inputs="a", study="b")


def trial(method: str, number: int = 0) -> Trial:
    return Trial(method, number, {"lr": 0.1 + 0.2, "weights.smc": 2.0}, 1 / 3, False, 1.5, "f" * 64)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("low", [2.0, 1.0])
def test_a_range_that_does_not_rise_is_refused(low):
    with pytest.raises(UsageError, match="low must be below high"):
        check(Range, {"low": low, "high": 1.0, "log": False}, Path("x"))


def test_a_logarithm_of_zero_is_refused():
    with pytest.raises(UsageError, match="at least 1e-08"):
        check(Range, {"low": 0.0, "high": 1.0, "log": True}, Path("x"))


def test_the_learning_rate_comes_first_and_is_a_multiple_of_the_protocols():
    space = space_of("baselines/cps", SETTINGS, 2e-3)
    assert next(iter(space.items())) == ("lr", Range(low=5e-4, high=1.6e-2, log=True))


def test_as_many_own_numbers_are_searched_as_the_settings_say():
    settings = SETTINGS.model_copy(update={"own": 1})
    assert [len(space_of("baselines/cps", s, 1.0)) for s in (settings, SETTINGS)] == [2, 3]


@pytest.mark.parametrize("method", find_methods(tiny_data.ROOT))
def test_every_method_declares_numbers_that_it_has(method):
    """`space_of` refuses others."""
    assert len(space_of(method, SETTINGS, 1.0)) <= 4


@pytest.fixture
def cps(tmp_path, monkeypatch) -> Path:
    """The yaml of cps in a checkout of its own."""
    monkeypatch.chdir(tmp_path)
    tiny_data.write_checkout(tmp_path)
    monkeypatch.setattr("rc2l_bench.variants.module_file", lambda module: tmp_path / f"{module.replace('.', '/')}.py")
    return tmp_path / "baselines/cps.yaml"


@pytest.mark.parametrize(
    ("text", "message"),
    [("tune: {wieght: {low: 0.1, high: 1.0, log: true}}", r"tune.wieght: not a number of this file; did you mean 'wei"),
     ("tune: {variant: {low: 0.1, high: 1.0, log: true}}", "tune.variant: not a number"),
     ("tune: {weight: {low: 2.0, high: 1.0, log: true}}", "tune.weight"),
     ("tune: {a: {}, b: {}, c: {}, d: {}}", "at most 3"), ("tune: [weight]", "at most 3")],
)  # fmt: skip
def test_a_wrong_declaration_is_told(cps, text, message):
    cps.write_text(cps.read_text().partition("tune:")[0] + text)
    with pytest.raises(UsageError, match=message):
        space_of("baselines/cps", SETTINGS, 1.0)


def test_what_was_written_is_read(here):
    write_tuned("mine", SETTINGS, {"baselines/cps": chosen(lr=0.1)}, [trial("baselines/cps")])
    found = read_tuned("mine")
    assert found is not None
    assert (found.settings, found.methods) == (SETTINGS, {"baselines/cps": chosen(lr=0.1)})
    assert read_trials("mine") == [trial("baselines/cps")]


def test_methods_that_were_tuned_alike_stay(here):
    write_tuned("mine", SETTINGS, {"baselines/cps": chosen(lr=0.1)}, [trial("baselines/cps")])
    write_tuned("mine", SETTINGS, {"baselines/u2pl": chosen(lr=0.2)}, [trial("baselines/u2pl")])
    found = read_tuned("mine")
    assert found is not None
    assert sorted(found.methods) == ["baselines/cps", "baselines/u2pl"]
    assert [row.method for row in read_trials("mine")] == ["baselines/cps", "baselines/u2pl"]


def test_methods_that_were_tuned_otherwise_go(here):
    write_tuned("mine", SETTINGS, {"baselines/cps": chosen(lr=0.1)}, [trial("baselines/cps")])
    other = SETTINGS.model_copy(update={"trials": 9})
    write_tuned("mine", other, {"baselines/u2pl": chosen(lr=0.2)}, [trial("baselines/u2pl")])
    found = read_tuned("mine")
    assert found is not None
    assert list(found.methods) == ["baselines/u2pl"]
    assert [row.method for row in read_trials("mine")] == ["baselines/u2pl"]


def test_a_data_set_that_was_never_tuned_has_nothing(here):
    assert (read_tuned("mine"), read_trials("mine"), chosen_for("baselines/cps", "mine")) == (None, [], None)


@pytest.mark.parametrize(
    ("method", "numbers"),
    [
        ("baselines/cps", {"lr": 0.1}),
        ("baselines/cps@plain", {"lr": 0.1}),
        ("baselines/cps@untuned", None),
        ("baselines/u2pl", None),
    ],
)
def test_a_variant_uses_what_was_chosen_for_its_method(here, method, numbers):
    write_tuned("mine", SETTINGS, {"baselines/cps": chosen(lr=0.1)}, [])
    found = chosen_for(method, "mine")
    assert (found.numbers if found else None) == numbers


@pytest.mark.parametrize("text", ["method\nx\n", f"{','.join(Trial._fields)}\na,b,{{}},0,no,1,f\n"])
def test_a_damaged_table_of_trials_is_told(here, text):
    (here / "tuned").mkdir()
    (here / "tuned/mine.csv").write_text(text)
    with pytest.raises(UsageError, match=r"mine\.csv: not a table of trials"):
        read_trials("mine")


def test_a_score_changes_the_digest_of_trials():
    first = trial("baselines/cps")
    assert digest_trials([first]) != digest_trials([first._replace(miou=0.2)])


def test_a_field_that_is_younger_than_the_tuning_counts_where_it_changes_something():
    def digest(**optimiser: float) -> str:
        return digest_inputs("baselines/cps", SETTINGS, stated(tiny_data.protocol(optimiser=optimiser)))

    assert "layer_decay" not in tiny_data.PROTOCOL["optimiser"], "as it was written before there was such a field"
    assert digest(layer_decay=1.0) == digest_inputs("baselines/cps", SETTINGS, tiny_data.PROTOCOL)
    assert digest(layer_decay=0.8) != digest(layer_decay=1.0)
    assert digest(power=0.8) != digest()


def test_what_is_stated_of_a_protocol_is_all_that_was_there_from_the_beginning():
    """Only fields with a default can be left out."""
    assert stated(tiny_data.protocol()) == tiny_data.PROTOCOL
    params = load(Params, tiny_data.ROOT / "params.yaml")
    assert "layer_decay" not in stated(params.protocol_of("shapes"))["optimiser"]


def test_tuned_numbers_reach_nested_keys_and_a_variant_has_the_last_word():
    found = read_config("rc2l_bench/methods/rc2l@rmc", {"weights.smc": 3.0, "threshold": 0.25})
    assert found["threshold"] == 0.25
    assert found["weights"]["smc"] == 0.0


def test_a_tuned_number_that_the_method_has_not_is_told():
    with pytest.raises(UsageError, match=r"tuned\.wieght: unknown key"):
        read_config("baselines/cps", {"wieght": 1.0})


def test_the_committed_choice_is_the_best_of_the_committed_trials():
    """For every data set in tuned/: nothing was edited by hand."""
    for file in sorted((tiny_data.ROOT / "tuned").glob("*.yaml")):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tiny_data.ROOT)
            tuned, trials = read_tuned(file.stem), read_trials(file.stem)
        assert tuned is not None
        for method, found in tuned.methods.items():
            mine = [row for row in trials if row.method == method]
            best = max(mine, key=lambda row: row.miou)
            assert (dict(best.numbers), best.miou, len(mine)) == (found.numbers, found.score, found.trials)
            assert digest_trials(mine) == found.study
