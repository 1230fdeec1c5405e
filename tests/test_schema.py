from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from rc2l_bench.errors import UsageError
from rc2l_bench.schema import Model, load, read_yaml


class Inner(Model):
    """A part."""

    depth: int
    pair: tuple[float, float]


class Outer(Model):
    """A file."""

    name: str
    rate: float
    parts: dict[str, Inner]
    names: list[str] = Field(min_length=1)
    switch: bool


GOOD = """
name: "1_16"
rate: 1e-3
parts: {first: {depth: 2, pair: [1, 2.5]}}
names: ["1_16", full]
switch: true
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(text)
    return path


def refused(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(Outer, written(folder, text))
    assert "\n" not in str(caught.value)
    assert str(folder / "x.yaml") in str(caught.value)
    return str(caught.value)


def test_a_good_file_is_read(tmp_path):
    found = load(Outer, written(tmp_path, GOOD))
    assert found.parts["first"].pair == (1.0, 2.5)
    assert found.names == ["1_16", "full"]


@pytest.mark.parametrize("number", ["1e-3", "1.0e-3", "0.001", "1E-3", "1.e-3"])
def test_all_forms_of_a_float_are_numbers(tmp_path, number):
    assert load(Outer, written(tmp_path, GOOD.replace("1e-3", number))).rate == 0.001


def test_a_whole_number_will_do_for_a_float(tmp_path):
    assert load(Outer, written(tmp_path, GOOD.replace("1e-3", "2"))).rate == 2.0


@pytest.mark.parametrize(
    ("text", "number"), [(GOOD.replace('"1_16", full', "1_16"), 116), (GOOD.replace('name: "1_16"', "name: 92"), 92)]
)
def test_an_unquoted_split_name_tells_to_quote(tmp_path, text, number):
    message = refused(tmp_path, text)
    assert f"got the number {number}" in message
    assert "quotes" in message


def test_an_unknown_key_names_the_nearest(tmp_path):
    assert "rat: unknown key; did you mean 'rate'?" in refused(tmp_path, GOOD.replace("rate", "rat"))


def test_an_unknown_key_deep_inside_names_the_nearest_there(tmp_path):
    message = refused(tmp_path, GOOD.replace("depth: 2", "depth: 2, deepth: 3"))
    assert "parts.first.deepth: unknown key; did you mean 'depth'?" in message


def test_a_key_like_no_other_gets_the_list_of_keys(tmp_path):
    message = refused(tmp_path, GOOD + "zzzzz: 1\n")
    assert "valid: name, names, parts, rate, switch" in message


def test_a_missing_key_is_named(tmp_path):
    assert "parts.first.pair: Field required" in refused(tmp_path, GOOD.replace(", pair: [1, 2.5]", ""))


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("1e-3", '"1e-3"', "rate"), ("1e-3", "yes please", "rate"), ("1e-3", "true", "rate"), ("1e-3", "", "rate"),
        ("depth: 2", "depth: 2.5", "parts.first.depth"), ("depth: 2", "depth: true", "parts.first.depth"),
        ("[1, 2.5]", "[1]", "parts.first.pair"), ("[1, 2.5]", "[1, 2, 3]", "parts.first.pair"),
        ("switch: true", "switch: 1", "switch"), ("switch: true", "switch: yes", "switch"),
        ('["1_16", full]', "[]", "names"), ('["1_16", full]', "full", "names"), ("full]", "true]", "names.1"),
        ("{first: {depth: 2, pair: [1, 2.5]}}", "[1]", "parts"),
    ],
)  # fmt: skip
def test_a_mistyped_value_is_named(tmp_path, old, new, where):
    assert f"x.yaml: {where}" in refused(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan"])
def test_numbers_must_be_finite(tmp_path, number):
    assert "finite" in refused(tmp_path, GOOD.replace("2.5", number))


def test_only_the_first_of_several_mistakes_is_told(tmp_path):
    message = refused(tmp_path, GOOD.replace("1e-3", "x").replace("switch: true", "switch: 3"))
    assert message.endswith("(and 1 more)")


@pytest.mark.parametrize("text", ["", "[1, 2]", "just words", "12"])
def test_a_file_without_keys_is_refused(tmp_path, text):
    assert "expected keys and values" in refused(tmp_path, text)


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "a: 1\na: 2", "\t- x", "a: *nowhere", "a: !!python/object:x {}"])
def test_what_is_not_yaml_is_refused(tmp_path, text):
    assert "not valid YAML" in refused(tmp_path, text)


def test_a_key_that_stands_twice_is_named_with_its_line(tmp_path):
    text = refused(tmp_path, "a: 1\nb: 2\na: 3\n")
    assert 'line 3: found duplicate key "a"' in text
    assert "suppress" not in text


def test_yaml_that_holds_itself_is_refused(tmp_path):
    assert "nested more than 32 deep, or holds itself" in refused(tmp_path, "a: &a {b: *a}")


def test_a_few_aliases_that_stand_for_gigabytes_are_refused(tmp_path):
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    assert "holds more than 100,000 values" in refused(tmp_path, text)


@pytest.mark.parametrize("text", ["[" * 1000, "[" * 1000 + "]" * 1000, "{a: " * 1000, "- " * 1000 + "x"])
def test_what_is_nested_a_thousand_deep_is_refused(tmp_path, text):
    assert "not valid YAML" in refused(tmp_path, text)


def test_a_large_file_is_not_parsed(tmp_path):
    assert "expected at most 524,288" in refused(tmp_path, "# " + "x" * (1 << 19))


def test_text_in_latin_1_is_told_as_such(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes("name: café".encode("latin-1"))
    with pytest.raises(UsageError, match=r"x\.yaml: not text in UTF-8: byte 0xe9 at position 9"):
        load(Outer, path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.yaml: cannot be read"):
        load(Outer, tmp_path / "nowhere.yaml")


def test_bytes_that_are_not_text_are_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(UsageError, match="not text in UTF-8"):
        load(Outer, path)


def test_a_date_is_not_a_name(tmp_path):
    assert "only text, numbers" in refused(tmp_path, GOOD.replace('name: "1_16"', "name: 2001-02-03"))


def test_yaml_is_read_as_version_1_2(tmp_path):
    assert read_yaml(written(tmp_path, "a: off\nb: 0o10\nc: 1e3")) == {"a": "off", "b": 8, "c": 1000.0}


def test_what_one_reader_changes_another_does_not_see(tmp_path):
    path = written(tmp_path, "a: [1]")
    read_yaml(path)["a"].append(2)
    assert read_yaml(path) == {"a": [1]}


def test_a_file_that_was_edited_is_read_again(tmp_path):
    read_yaml(written(tmp_path, "a: 1"))
    assert read_yaml(written(tmp_path, "a: 2")) == {"a": 2}
