from __future__ import annotations

import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import tiny_data

from rc2l_bench.config import Params, load
from rc2l_bench.errors import UsageError
from rc2l_bench.methods.contract import load_class, load_config
from rc2l_bench.run.cell import open_cell, vary_protocol
from rc2l_bench.run.pipeline import cell_stages
from rc2l_bench.variants import (
    base_of,
    find_methods,
    method_yaml,
    protocol_changes,
    read_config,
    resolve_method,
    variant_of,
    variants_of,
)

EVERY = [(method, name) for method in find_methods(tiny_data.ROOT) for name in variants_of(method)]
ITEM = {"dataset": "shapes", "split": "1_16", "method": "baselines/cps@plain", "seed": "0"}


@pytest.fixture
def cps(tmp_path, monkeypatch) -> Path:
    """The yaml of a copy of CPS, to be spoilt."""
    source = method_yaml("baselines/cps")
    copy = tmp_path / "cps.yaml"
    shutil.copy(source, copy)
    monkeypatch.setattr("rc2l_bench.variants.method_yaml", lambda _: copy)
    return copy


@pytest.mark.parametrize(
    ("method", "base", "variant"),
    [("baselines/cps@plain", "baselines/cps", "plain"), ("baselines/cps", "baselines/cps", "")],
)
def test_an_id_is_a_method_and_perhaps_a_variant(method, base, variant):
    assert (base_of(method), variant_of(method)) == (base, variant)


@pytest.mark.parametrize(("method", "name"), EVERY)
def test_every_variant_of_the_checkout_is_valid_and_differs_from_its_method(method, name):
    variant = f"{method}@{name}"
    assert load_config(variant) != load_config(method) or protocol_changes(variant)


def test_a_variant_changes_what_it_names_and_nothing_else():
    base, changed = read_config("rc2l_bench/methods/rc2l"), read_config("rc2l_bench/methods/rc2l@rmc")
    others = dict.fromkeys(("rfc", "rcc", "smc", "mask"), 0.0)
    assert changed["weights"] == {"rmc": base["weights"]["rmc"], **others}
    assert {k: v for k, v in changed.items() if k != "weights"} == {k: v for k, v in base.items() if k != "weights"}


def test_the_numbers_of_a_method_do_not_hold_its_variants():
    """Otherwise a new variant would make all finished runs of the method another thing."""
    assert "variants" not in read_config("rc2l_bench/methods/rc2l")


def test_a_variant_is_a_method_of_the_same_class():
    assert load_class("baselines/cps@plain") is load_class("baselines/cps")


def test_the_tail_of_a_variant_names_it():
    assert resolve_method("cps@plain", find_methods(tiny_data.ROOT)) == "baselines/cps@plain"


@pytest.mark.parametrize("read", [read_config, lambda m: resolve_method(m, find_methods(tiny_data.ROOT))])
def test_an_unknown_variant_names_the_nearest(read):
    with pytest.raises(UsageError, match=r"unknown variant 'plane' of baselines/cps: did you mean 'plain'\?"):
        read("baselines/cps@plane")


def test_an_empty_variant_is_unknown():
    with pytest.raises(UsageError, match="unknown variant ''"):
        read_config("baselines/cps@")


def test_a_method_without_variants_says_so():
    with pytest.raises(UsageError, match="unknown variant 'x' of baselines/supervised: valid: none"):
        read_config("baselines/supervised@x")


def test_an_unknown_method_with_a_variant_is_named_without_it():
    with pytest.raises(UsageError, match="unknown method 'baselines/nothing'"):
        read_config("baselines/nothing@plain")


def test_a_variant_that_misspells_a_key_is_told_where(cps):
    cps.write_text(cps.read_text().replace("{variant: plain,", "{varient: plain,"))
    with pytest.raises(UsageError, match=r"cps.yaml: variants.plain.varient: unknown key; did you mean 'variant'\?"):
        read_config("baselines/cps@plain")


@pytest.mark.parametrize("text", ["variants: [plain]", "variants: {plain: 3}"])
def test_variants_that_are_no_changes_by_name_are_refused(cps, text):
    cps.write_text(cps.read_text().partition("variants:")[0] + text)
    with pytest.raises(UsageError, match="variants: expected names"):
        read_config("baselines/cps@plain")


def test_a_variant_has_a_folder_of_its_own():
    train = cell_stages(ITEM, tiny_data.ROOT)[-1]
    assert train.outs == [Path("runs/shapes/1_16/baselines/cps+plain/seed0")]
    assert train.command[5] == "baselines/cps+plain"


def test_a_variant_is_another_run_of_the_same_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_data.write_checkout(tmp_path)
    shards, plan = Path("data/shards/tiny"), Path("data/splits/tiny/1_4/seed0.json")
    base, variant = (
        open_cell("tiny", "1_4", method, 0, shards, plan).provenance()
        for method in ("baselines/cps", "baselines/cps@plain")
    )
    assert variant["fingerprint"] != base["fingerprint"]
    assert variant["source"] == base["source"]


STUDIES = load(Params, tiny_data.ROOT / "params.yaml").ablation


def terms(study):
    """The losses of each row of a study, in order."""
    return [{name for name, weight in read_config(m)["weights"].items() if weight} for m in STUDIES[study].method]


def test_the_single_study_has_every_loss_alone_and_the_pairs():
    found = sorted(map(sorted, terms("single")))
    pairs = [["rfc", "rmc"], ["rcc", "smc"], ["rcc", "rfc", "rmc", "smc"]]
    assert found == sorted([[], ["rmc"], ["rfc"], ["rcc"], ["smc"], *pairs])


def test_the_cumulative_study_adds_one_loss_after_the_other_in_the_order_of_the_paper():
    rows = terms("cumulative")
    assert rows[:2] == [{"mask"}, {"smc"}]
    assert [after - before for before, after in pairwise(rows[1:])] == [{"rcc"}, {"rmc"}, {"rfc"}]


def test_the_study_of_queries_varies_the_network():
    protocol = load(Params, tiny_data.ROOT / "params.yaml").protocol_of("shapes")
    varied = [vary_protocol(protocol, protocol_changes(m), m) for m in STUDIES["queries"].method]
    assert [one.net.region.queries for one in varied] == [16, 20, 50, 100]
    same = [one.model_copy(update={"net": protocol.net}) for one in varied]
    assert same == [protocol] * 4


@pytest.mark.parametrize("study", STUDIES)
def test_every_row_of_a_study_can_be_loaded(study):
    for method in STUDIES[study].method:
        assert load_config(method)
        assert resolve_method(method, find_methods(tiny_data.ROOT)) == method


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            "{net: {region: {query: 3}}}",
            "variants.wide.protocol: net.region.query: unknown key; did you mean 'queries'?",
        ),
        ("{steps: -1}", "variants.wide.protocol: steps: Input should be greater than or equal to 1"),
        ("3", "variants.wide.protocol: expected keys of the protocol and values"),
    ],
)
def test_a_variant_that_spoils_the_protocol_is_named(cps, changes, text):
    cps.write_text(cps.read_text().replace("variants:\n", f"variants:\n  wide: {{protocol: {changes}}}\n"))
    protocol = load(Params, tiny_data.ROOT / "params.yaml").protocol_of("shapes")
    with pytest.raises(UsageError, match=re.escape(text)):
        vary_protocol(protocol, protocol_changes("baselines/cps@wide"), "baselines/cps@wide")


def test_what_a_variant_changes_of_the_protocol_is_no_number_of_the_method(cps):
    cps.write_text(cps.read_text().replace("variants:\n", "variants:\n  short: {protocol: {steps: 7}}\n"))
    assert read_config("baselines/cps@short") == read_config("baselines/cps")
    assert protocol_changes("baselines/cps@short") == {"steps": 7}
    assert protocol_changes("baselines/cps") == {}
