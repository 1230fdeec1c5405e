from __future__ import annotations

import math

import numpy as np
import pytest

from rc2l_bench.metrics import areas_of, class_iou, mean_iou, pixel_accuracy


def test_iou_is_that_computed_by_hand():
    confusion = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    np.testing.assert_allclose(class_iou(areas_of(confusion)), [6 / 9, 3 / 6, np.nan])


def test_a_class_that_is_nowhere_is_skipped():
    assert mean_iou(areas_of(np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]))) == pytest.approx((6 / 9 + 3 / 6) / 2)


def test_a_class_that_is_only_predicted_counts_as_zero():
    assert mean_iou(areas_of(np.array([[4, 4], [0, 0]]))) == pytest.approx((0.5 + 0) / 2)


def test_a_class_that_is_never_found_counts_as_zero():
    assert mean_iou(areas_of(np.array([[4, 0], [4, 0]]))) == pytest.approx((0.5 + 0) / 2)


def test_iou_takes_several_sets_at_once():
    sets = np.random.default_rng(0).integers(0, 9, (3, 4, 4))
    np.testing.assert_array_equal(class_iou(areas_of(sets)), [class_iou(areas_of(one)) for one in sets])


def test_nothing_counted_is_not_a_number():
    nothing = np.zeros((3, 3), np.int64)
    assert math.isnan(mean_iou(areas_of(nothing)))
    assert math.isnan(pixel_accuracy(nothing))


def test_accuracy_is_the_share_of_right_pixels():
    assert pixel_accuracy(np.array([[6, 2], [1, 3]])) == 9 / 12


def test_large_counts_do_not_overflow():
    confusion = np.full((2, 2), 2**31 - 1, np.int32)
    assert mean_iou(areas_of(confusion)) == pytest.approx(1 / 3)
    assert pixel_accuracy(confusion) == 0.5


def test_areas_and_miou_by_hand():
    # Truth: 5 of class 0, 5 of class 1, none of class 2 and of class 3; 1 pixel of class 1 was taken for class 3.
    confusion = np.array([[4, 1, 0, 0], [0, 4, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    areas = areas_of(confusion)
    np.testing.assert_allclose(areas, [[4, 4, 0, 0], [5, 6, 0, 1]])
    np.testing.assert_allclose(class_iou(areas), [4 / 5, 4 / 6, np.nan, 0])
    np.testing.assert_allclose(mean_iou(areas), (4 / 5 + 4 / 6 + 0) / 3)


def test_miou_without_any_counted_pixel_is_not_a_number():
    assert np.isnan(mean_iou(np.zeros((2, 3))))
