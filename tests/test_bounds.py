from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from rc2l_bench.bounds import (
    LONGEST_NAME,
    TINY,
    MethodId,
    Name,
    NonNegative,
    Range,
    Text,
    check_name,
    different,
    rising,
)
from rc2l_bench.errors import UsageError


def accepts(kind: object, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(("pair", "good"), [((1.0, 2.0), True), ((2.0, 2.0), True), ((2.0, 1.0), False)])
def test_a_range_goes_from_small_to_large(pair, good):
    assert accepts(Range, pair) == good


def test_a_range_that_falls_says_what_was_given():
    with pytest.raises(ValueError, match=r"goes from small to large, got \[2, 1\]"):
        rising((2, 1))


def test_a_list_that_names_something_twice_is_refused():
    assert different(["a", "b"]) == ["a", "b"]
    with pytest.raises(ValueError, match="names something twice"):
        different(["a", "b", "a"])


@pytest.mark.parametrize(("value", "good"), [(0, True), (TINY, True), (TINY / 2, False), (-1, False), (1e7, False)])
def test_what_is_not_negative_is_zero_or_large_enough_to_mean_something(value, good):
    assert accepts(NonNegative, value) == good


@pytest.mark.parametrize("name", ["1_16", "u2pl-1.8", "a" * LONGEST_NAME])
def test_names_of_splits_and_data_sets_pass(name):
    check_name("split", name)
    assert accepts(Name, name)


@pytest.mark.parametrize("name", ["", "-x", "../x", "a b", "1_16'", "a\n", "ä", "a" * (LONGEST_NAME + 1)])
def test_what_could_be_a_path_an_option_or_a_command_is_no_name(name):
    with pytest.raises(UsageError, match=r"^split "):
        check_name("split", name)
    assert not accepts(Name, name)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("baselines/cps", True),
        ("baselines/cps@plain", True),
        ("rc2l_bench/methods/rc2l+alpha_1", True),
        ("cps", False),
        ("baselines/../cps", False),
        ("baselines/cps@", False),
    ],
)
def test_a_method_is_named_by_its_path_and_perhaps_a_variant(name, good):
    assert accepts(MethodId, name) == good


@pytest.mark.parametrize(("text", "good"), [("resnet50", True), ("a b", True), ("a\nb", False), ("\x1b[1m", False)])
def test_a_text_is_one_line_without_control_characters(text, good):
    assert accepts(Text, text) == good
