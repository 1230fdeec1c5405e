from __future__ import annotations

import pytest
import torch

from rc2l_bench.errors import (
    BenchError,
    DivergedError,
    PreemptedError,
    RefusedError,
    UsageError,
    is_out_of_memory,
    refusals,
    shorten,
    suggest,
)


def test_wrong_use_and_failed_work_have_their_own_codes():
    assert (UsageError("x").exit_code, BenchError("x").exit_code) == (2, 1)
    assert DivergedError("x", 3.0).seconds == 3.0


def test_no_handler_of_errors_swallows_a_request_to_stop():
    assert not isinstance(PreemptedError("x"), Exception)
    assert PreemptedError("x").exit_code == 75


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes do not fit"), False),
    ],
)
def test_memory_that_ran_out_is_told_apart(error, expected):
    assert is_out_of_memory(error) is expected


def test_a_near_miss_is_suggested_and_else_all_are_listed():
    assert suggest("1_61", ["1_16", "full"]) == "did you mean '1_16'?"
    assert suggest("zebra", ["b", "a"]) == "valid: a, b"
    assert suggest("zebra", []) == "valid: none"


def test_a_long_text_is_cut():
    assert shorten("a" * 100) == "a" * 100
    assert shorten("a" * 101) == "a" * 99 + "…"


@pytest.mark.parametrize("error", [TypeError("no\n such  option"), NotImplementedError("no such option")])
def test_a_refusal_says_why_in_one_line(error):
    with pytest.raises(RefusedError, match=r"^no such option$") as caught, refusals():
        raise error
    assert caught.value.__cause__ is error


def test_a_refusal_without_a_word_is_told_by_its_kind():
    with pytest.raises(RefusedError, match=r"^AssertionError$"), refusals():
        raise AssertionError


@pytest.mark.parametrize("error", [RuntimeError("can't allocate memory"), UsageError("x"), NameError("x")])
def test_memory_that_ran_out_and_mistakes_are_no_refusals(error):
    with pytest.raises(type(error)), refusals():
        raise error


def test_suggestions_name_the_nearest_or_all():
    assert suggest("shap", ["shapes", "camvid"]) == "did you mean 'shapes'?"
    assert suggest("zzz", ["b", "a"]) == "valid: a, b"
    assert suggest("zzz", []) == "valid: none"
