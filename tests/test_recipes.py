from __future__ import annotations

import pytest

from rc2l_bench.recipes import overlay, write_out


def test_a_recipe_states_only_what_differs_from_its_base():
    recipes = {"a": {"lr": 1, "net": {"width": 8, "depth": 2}}, "b": {"base": "a", "net": {"depth": 3}}}
    assert write_out({"recipes": recipes})["recipes"]["b"] == {"lr": 1, "net": {"width": 8, "depth": 3}}


def test_a_base_may_have_a_base():
    recipes = {"c": {"base": "b", "z": 3}, "b": {"base": "a", "y": 2}, "a": {"x": 1, "y": 1, "z": 1}}
    assert write_out({"recipes": recipes})["recipes"]["c"] == {"x": 1, "y": 2, "z": 3}


def test_a_protocol_starts_from_a_recipe_that_is_written_out():
    params = {"recipes": {"a": {"x": 1}, "b": {"base": "a", "y": 2}}, "protocol": {"voc": {"recipe": "b", "x": 5}}}
    assert write_out(params)["protocol"] == {"voc": {"x": 5, "y": 2}}


def test_what_is_read_stays_as_it_is():
    params = {"recipes": {"a": {"net": {"x": 1}}, "b": {"base": "a", "net": {"y": 2}}}, "protocol": {}}
    write_out(params)
    assert params["recipes"]["a"] == {"net": {"x": 1}}


def test_an_unknown_recipe_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"protocol\.voc\.recipe: there is no recipe 'bb'; did you mean 'b'\?"):
        write_out({"recipes": {"b": {}}, "protocol": {"voc": {"recipe": "bb"}}})


def test_a_circle_is_named_from_end_to_end():
    recipes = {"a": {"base": "b"}, "b": {"base": "a"}}
    with pytest.raises(ValueError, match=r"starts from itself \(recipes\.a -> recipes\.b -> recipes\.a\)"):
        write_out({"recipes": recipes})


def test_a_mapping_with_a_mode_replaces_the_other_as_a_whole():
    sliding = {"eval": {"protocol": {"mode": "sliding", "window": [8, 8]}, "flip": True}}
    assert overlay(sliding, {"eval": {"protocol": {"mode": "whole"}}}) == {
        "eval": {"protocol": {"mode": "whole"}, "flip": True}
    }


@pytest.mark.parametrize("params", [{"recipes": [1]}, {"protocol": 3}, {"protocol": {"voc": None}}])
def test_what_is_no_mapping_is_left_to_the_typed_check(params):
    assert write_out(params).items() >= params.items()
