from __future__ import annotations

import pytest

from rc2l_bench.data.addresses import expand, is_remote, join, list_tars, split_base, with_environment, without_secrets
from rc2l_bench.errors import UsageError


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("http://a/x.tar", ["http://a/x.tar"]),
        ("x-{008..011}.tar", ["x-008.tar", "x-009.tar", "x-010.tar", "x-011.tar"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        ("http://a/{0..1}.tar?t=${TOKEN}", ["http://a/0.tar?t=${TOKEN}", "http://a/1.tar?t=${TOKEN}"]),
        ("plain/*.tar", ["plain/*.tar"]),
    ],
)
def test_a_pattern_stands_for_many(pattern, expected):
    assert expand(pattern) == expected


@pytest.mark.parametrize("pattern", ["x-{3..1}.tar", "x-{0..99999999999}.tar", "{0..9999}-{0..9999}.tar"])
def test_a_pattern_that_cannot_be_meant_is_one_line(pattern):
    with pytest.raises(UsageError, match=r"must count up|at most 1,000,000"):
        expand(pattern)


def test_addresses_are_divided_into_a_folder_and_names_and_joined_again():
    addresses = ["https://h:8/a/b1/x-0.tar?t=${T}", "https://h:8/a/b2/x-1.tar?t=${T}"]
    base, names = split_base(addresses)
    assert (base, names) == ("https://h:8/a/?t=${T}", ["b1/x-0.tar", "b2/x-1.tar"])
    assert [join(base, name) for name in names] == addresses
    assert split_base(["s3://bucket/x.tar"]) == ("s3://bucket/", ["x.tar"])


@pytest.mark.parametrize("address", ["https://me:secret@h/x.tar", "https://secret@h/x.tar"])
def test_users_and_passwords_are_refused_and_not_repeated(address):
    with pytest.raises(UsageError, match=r"https://h/x\.tar: holds a user or a password") as error:
        split_base([address])
    assert "secret" not in str(error.value)


def test_addresses_of_two_places_are_refused():
    with pytest.raises(UsageError, match=r"http://b/1\.tar: is elsewhere than http://a/0\.tar"):
        split_base(["http://a/0.tar", "http://b/1.tar"])


def test_variables_are_filled_in_from_the_environment(monkeypatch):
    monkeypatch.setenv("POOL_TOKEN", "s3cret")
    assert with_environment("https://h/x?t=${POOL_TOKEN}") == "https://h/x?t=s3cret"
    monkeypatch.delenv("POOL_TOKEN")
    with pytest.raises(UsageError, match="https://h/x: the environment variable POOL_TOKEN is not set"):
        with_environment("https://h/x?t=${POOL_TOKEN}")


def test_nothing_secret_is_left_in_a_text():
    text = "GET https://me:secret@h/a.tar?sig=secret failed: see http://h/?secret)"
    assert without_secrets(text) == "GET https://h/a.tar failed: see http://h/)"


def test_a_password_may_hold_an_at_sign():
    assert without_secrets("see https://me:p@ss@h/a.tar") == "see https://h/a.tar"


def test_what_stood_for_a_variable_is_the_variable_again(monkeypatch):
    monkeypatch.setenv("POOL_TOKEN", "s3cret-in-a-path")
    asked = with_environment("https://h/${POOL_TOKEN}/a.tar")
    assert without_secrets(f"{asked}: 404") == "https://h/${POOL_TOKEN}/a.tar: 404"


def test_a_user_in_the_address_of_a_stream_is_refused():
    with pytest.raises(UsageError, match="holds a user or a password"):
        list_tars("https://me:secret@h/x-{0..1}.tar")


def test_paths_are_not_addresses():
    assert all(map(is_remote, ("s3://b/x", "http://h", "hf://datasets/a/b")))
    assert not any(map(is_remote, ("data/x", "/data", "C:/x", "a b://c")))
