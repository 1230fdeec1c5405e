"""What the values and colours in a user's masks become."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from folder_data import png

from rc2l_bench.data.datasets.folder_config import FolderConfig
from rc2l_bench.data.datasets.folder_masks import class_of_value, default_palette, to_indices
from rc2l_bench.data.decode import decode_mask
from rc2l_bench.errors import BenchError

COLOURS = [[0, 0, 0], [200, 30, 30], [30, 200, 30]]


def config(**changes: Any) -> FolderConfig:
    plain = {"images": "i", "masks": "m", "classes": ["a", "b", "c"], "shares": {"val": 0.2, "test": 0.0, "seed": 0}}
    kept = {key: value for key, value in (plain | changes).items() if value is not None}
    return FolderConfig.model_validate_json(json.dumps(kept))


def read(row: list[int], **changes: Any) -> list[int]:
    """The classes of a mask of one row."""
    array = np.array([row], np.uint8)
    return decode_mask(to_indices(png(array), "m.png", config(**changes)))[0].tolist()


def test_values_are_classes_by_their_names_in_the_order_in_which_they_are_written():
    assert read([7, 11, 255, 7], values={7: "road", 11: "building"}, classes=None) == [0, 1, 255, 0]


def test_several_values_may_be_one_class_and_classes_may_have_an_order_of_their_own():
    changes = {"values": {7: "road", 8: "road", 11: "building"}, "classes": ["building", "road"]}
    assert read([7, 8, 11], **changes) == [1, 1, 0]


def test_masks_of_0_and_255_are_two_classes_when_it_is_said():
    assert read([0, 255, 0], values={0: "background", 255: "lesion"}, classes=None) == [0, 1, 0]


def test_with_reduce_zero_label_0_is_ignored_and_1_is_the_first_class():
    assert read([0, 1, 2, 3, 255], reduce_zero_label=True) == [255, 0, 1, 2, 255]


def test_values_that_no_class_has_are_ignored_where_it_is_said():
    assert read([0, 7, 11, 3], values={7: "road", 11: "building"}, classes=None, ignore="others") == [255, 0, 1, 255]
    assert read([0, 7, 11], values={7: "road", 11: "building"}, classes=None, ignore=[0]) == [255, 0, 1]
    assert read([0, 1, 2, 9], ignore="others") == [0, 1, 2, 255]


@pytest.mark.parametrize(
    "changes",
    [{"values": {7: "a", 11: "b", 12: "c"}}, {"reduce_zero_label": True}, {"ignore": [9]}],
)
def test_a_value_of_no_class_is_named_with_its_count(changes):
    with pytest.raises(BenchError, match=r"^m\.png: the value 44 \(2 pixels\) belongs to no class: see values, ignore"):
        read([44, 44], **changes)


def test_masks_that_are_indices_are_not_touched():
    data = png(np.array([[0, 1, 2, 255, 77]], np.uint8))
    assert class_of_value(config()) is None
    assert to_indices(data, "m.png", config()) == data


@pytest.mark.parametrize("channels", [3, 4])
def test_equal_channels_are_taken_as_one(channels):
    values = np.array([[0, 1, 2, 255]], np.uint8)
    mask = np.repeat(values[..., None], channels, 2)
    if channels == 4:
        mask[..., 3] = 255
    assert decode_mask(to_indices(png(mask), "m.png", config())).tolist() == values.tolist()


def test_unequal_channels_are_colours_and_the_message_says_what_to_write():
    mask = np.array([[[0, 0, 0], [0, 0, 1]]], np.uint8)
    with pytest.raises(BenchError, match=r"^m\.png: has colours, but .*`masks_hold: colours`"):
        to_indices(png(mask), "m.png", config())


def coloured(pixels: Any, **changes: Any) -> list[int]:
    data = png(np.array([pixels], np.uint8))
    return decode_mask(to_indices(data, "m.png", config(masks_hold="colours", colours=COLOURS, **changes)))[0].tolist()


def test_colours_are_classes():
    assert coloured([[0, 0, 0], [30, 200, 30], [200, 30, 30]]) == [0, 2, 1]


def test_colours_within_the_tolerance_are_classes_and_beyond_it_none():
    assert coloured([[5, 0, 3], [205, 25, 35], [25, 195, 30]], tolerance=5) == [0, 1, 2]
    with pytest.raises(BenchError, match=r"the colour \[206, 30, 30\] \(1 pixels\) belongs to no class"):
        coloured([[0, 0, 0], [206, 30, 30]], tolerance=5)


def test_ignored_colours_have_the_tolerance_too():
    assert coloured([[254, 253, 255], [0, 1, 0]], tolerance=3, ignore_colours=[[255, 255, 255]]) == [255, 0]


def test_a_tolerance_that_two_colours_share_is_refused():
    with pytest.raises(ValueError, match=r"tolerance: 85 is too much for .* which are 170 apart: at most 84"):
        config(masks_hold="colours", colours=[[0, 0, 0], [170, 0, 0], [0, 255, 0]], tolerance=85)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": {7: "x"}}, "values: 'x' is none of the classes"),
        ({"values": {7: "a", 8: "b"}}, "values: no value stands for 'c'"),
        ({"values": {7: "a"}, "classes": None}, "'a' alone leaves nothing to tell apart"),
        ({"classes": ["a"]}, "'a' alone leaves nothing to tell apart"),
        ({"values": {7: "a", 8: "b", 9: "c"}, "reduce_zero_label": True}, "either values or reduce_zero_label"),
        ({"values": {7: "a", 8: "b", 9: "c"}, "ignore": [8]}, "ignore: 8 is a class"),
        ({"reduce_zero_label": True, "ignore": [3]}, "ignore: 3 is a class"),
        ({"tolerance": 3}, "need `masks_hold: colours`"),
        ({"masks_hold": "colours", "colours": COLOURS, "ignore": "others"}, "need `masks_hold: indices`"),
        ({"rare_classes": ["d"]}, "rare_classes: 'd' is none of the classes"),
        ({"values": {256: "a"}}, "less than or equal to 255"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_generated_colours_differ_for_as_many_classes_as_there_can_be():
    palette = default_palette(255)
    assert len(set(palette)) == 255
    assert all(0 <= channel <= 255 for colour in palette for channel in colour)
