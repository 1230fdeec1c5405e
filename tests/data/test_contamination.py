"""The gate, as splits go through it."""

from __future__ import annotations

import pytest
from splits_data import CATALOG, UNIFORM, ids, row, table

from rc2l_bench.data.contamination import check_apart
from rc2l_bench.data.split_draws import draw
from rc2l_bench.data.splits import assemble
from rc2l_bench.errors import BenchError


@pytest.mark.parametrize(("part", "group"), [("val", "val"), ("test", "test")])
def test_the_gate_finds_the_same_bytes_under_another_name(part: str, group: str) -> None:
    train = [row(name, content=name) for name in ids(4)]
    twin = row("zebra", part, content="2099_000002")
    catalog = table(train, **{part: [twin]})
    with pytest.raises(
        BenchError, match=rf"by content: '2099_000002' \((un)?labelled\) and 'zebra' \({group}\)"
    ) as info:
        draw("voc", "1_2", catalog, UNIFORM)
    assert "\n" not in str(info.value)


def test_the_gate_finds_the_same_bytes_labelled_and_unlabelled() -> None:
    catalog = table([row("a", content="same"), row("b", content="same"), row("c")])
    with pytest.raises(BenchError, match=r"labelled and unlabelled share an image by content: 'a' .* 'b'"):
        assemble("mine", "one", catalog, ["a"], None, {})
    assemble("mine", "both", catalog, ["a", "b"], None, {})


def test_the_gate_finds_the_same_id_in_two_parts() -> None:
    catalog = table([row("a"), row("b")], [row("b", "val")])
    with pytest.raises(BenchError, match="share an image by id: 'b'"):
        draw("mine", "full", catalog, UNIFORM)


def test_the_gate_finds_an_image_that_val_and_test_share() -> None:
    catalog = table([row("a")], [row("v", "val", content="x")], [row("t", "test", content="x")])
    with pytest.raises(BenchError, match=r"'v' \(val\) and 't' \(test\)"):
        draw("mine", "full", catalog, UNIFORM)


def test_the_gate_finds_an_id_on_both_sides() -> None:
    with pytest.raises(BenchError, match="2 pairs of images on two sides are the same by id"):
        assemble("voc", "bad", CATALOG, ids(2), ids(3), {})


def test_the_gate_names_all_pairs_at_once_and_their_number() -> None:
    train = [row("a", content="x"), row("b", content="y"), row("c", content="x")]
    catalog = table(train, [row("v", "val", content="x"), row("w", "val", content="y")])
    with pytest.raises(BenchError) as info:
        draw("mine", "full", catalog, UNIFORM)
    assert "3 pairs of images on two sides are the same by content" in str(info.value)
    for pair in (("a", "v"), ("c", "v"), ("b", "w")):
        assert f"'{pair[0]}' (labelled) and '{pair[1]}' (val)" in str(info.value)


def test_the_gate_names_ten_pairs_and_counts_the_others() -> None:
    train = [row(f"t{number}", content=str(number)) for number in range(25)]
    catalog = table(train, [row(f"v{number}", "val", content=str(number)) for number in range(25)])
    with pytest.raises(BenchError, match=r"25 pairs .* and 15 more: take one of each out"):
        draw("mine", "full", catalog, UNIFORM)


def test_groups_that_share_nothing_pass_and_may_repeat_themselves() -> None:
    twins = [row("a", content="x"), row("b", content="x")]
    check_apart("mine", {"one": twins, "other": [row("c")]})
