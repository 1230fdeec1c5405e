"""Damage of every kind of file that is read: it is found and told in one line, or it changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import chdir

import pytest
from fuzz_corpus import GROUPS, Kind
from fuzz_strategies import CASES, bounded_memory, changed, damaged, one_line_or_none
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow


MANY = settings(CASES, max_examples=10 * CASES.max_examples)


@pytest.fixture(scope="module", params=GROUPS)
def kinds(request, tmp_path_factory) -> Iterator[dict[str, Kind]]:
    """A good file of each kind, in a folder that is the current one."""
    with chdir(tmp_path_factory.mktemp("corpus")), bounded_memory(1024):
        yield GROUPS[request.param]()


def check(kind: Kind, data: bytes) -> None:
    """Read a file of other bytes; the good ones are put back."""
    good = kind.path.read_bytes()
    try:
        kind.path.write_bytes(data)
        with one_line_or_none(kind.name):
            kind.read(kind.path)
    finally:
        kind.path.write_bytes(good)


def test_good_files_are_read(kinds):
    """Else nothing below would say anything."""
    assert kinds
    for kind in kinds.values():
        good = kind.path.read_bytes()
        kind.read(kind.path)
        kind.path.write_bytes(good)


@MANY
@given(data=st.data())
def test_damage_ends_well_or_in_one_line(kinds, data):
    kind = kinds[data.draw(st.sampled_from(list(kinds)))]
    check(kind, data.draw(damaged(kind.path.read_bytes())))


@pytest.mark.parametrize("kinds", ["results", "prepared"], indirect=True)
@MANY
@given(data=st.data())
def test_other_content_with_a_right_hash_ends_well_or_in_one_line(kinds, data):
    """A document of another version, or of another program."""
    kind = kinds[data.draw(st.sampled_from([name for name in kinds if kinds[name].reseal]))]
    other = data.draw(changed(json.loads(kind.path.read_bytes())))
    assume("\\ud800" not in json.dumps(other))  # cannot be written, with a hash or without
    check(kind, kind.reseal(other))
