from __future__ import annotations

import math

import numpy as np
import pytest

from rc2l_bench.metrics import (
    BINS,
    areas_of,
    calibration_error,
    class_iou,
    mean_iou,
    mean_over_pixels,
    pixel_accuracy,
)

ABSENT = ["skip", "predicted", "zero"]
RULES = pytest.mark.parametrize("absent", ABSENT)
# Truth: 5 pixels of class 0, 5 of class 1, none of class 2 and of class 3; 1 of class 1 was taken for class 3.
CONFUSION = np.array([[4, 1, 0, 0], [0, 4, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_areas_are_those_counted_by_hand():
    np.testing.assert_allclose(areas_of(CONFUSION), [[4, 4, 0, 0], [5, 6, 0, 1], [5, 5, 0, 0]])


@pytest.mark.parametrize(
    ("absent", "iou"),
    [
        ("skip", [4 / 5, 4 / 6, np.nan, np.nan]),
        ("predicted", [4 / 5, 4 / 6, np.nan, 0]),
        ("zero", [4 / 5, 4 / 6, 0, 0]),
    ],
)
def test_a_class_without_truth_counts_as_the_protocol_says(absent, iou):
    np.testing.assert_allclose(class_iou(areas_of(CONFUSION), absent), iou)
    np.testing.assert_allclose(mean_iou(areas_of(CONFUSION), absent), np.nanmean(iou))


def test_a_class_without_truth_takes_no_method_out_of_the_same_mean():
    """The reported case: 42 pixels of such a class cost a method a quarter of its score, and its neighbours nothing."""
    clean = np.diag([500, 500, 300, 0])
    strays = clean.copy()
    strays[0, 0], strays[0, 3] = 458, 42
    means = [float(mean_iou(areas_of(x), "skip")) for x in (clean, strays)]
    assert means == [pytest.approx(1), pytest.approx((458 / 500 + 1 + 1) / 3)]
    assert float(mean_iou(areas_of(strays), "predicted")) == pytest.approx((458 / 500 + 2) / 4)


@RULES
def test_a_class_that_is_never_found_counts_as_zero(absent):
    assert mean_iou(areas_of(np.array([[4, 0], [4, 0]])), absent) == pytest.approx((0.5 + 0) / 2)


@RULES
def test_where_every_class_has_truth_the_rules_agree(absent):
    confusion = np.random.default_rng(1).integers(1, 50, (5, 5))
    assert mean_iou(areas_of(confusion), absent) == mean_iou(areas_of(confusion), "skip")


@RULES
def test_iou_takes_several_sets_at_once(absent):
    sets = np.random.default_rng(0).integers(0, 9, (3, 4, 4))
    sets[0, 2] = 0
    one_by_one = [class_iou(areas_of(one), absent) for one in sets]
    np.testing.assert_array_equal(class_iou(areas_of(sets), absent), one_by_one)
    np.testing.assert_allclose(mean_iou(areas_of(sets), absent), [np.nanmean(iou) for iou in one_by_one])


@RULES
def test_nothing_counted_is_not_a_number(absent):
    nothing = np.zeros((3, 3), np.int64)
    assert math.isnan(mean_iou(areas_of(nothing), absent))
    assert math.isnan(pixel_accuracy(nothing))


def test_accuracy_is_the_share_of_right_pixels():
    assert pixel_accuracy(np.array([[6, 2], [1, 3]])) == 9 / 12


def test_large_counts_do_not_overflow():
    confusion = np.full((2, 2), 2**31 - 1, np.int32)
    assert mean_iou(areas_of(confusion), "skip") == pytest.approx(1 / 3)
    assert pixel_accuracy(confusion) == 0.5


def test_the_calibration_error_is_that_computed_by_hand():
    bins = np.zeros((2, 3, BINS))
    bins[0, :, 3], bins[0, :, 14] = (4, 1, 1.0), (6, 6, 5.4)
    bins[1, :, 14] = (10, 5, 9.8)
    np.testing.assert_allclose(calibration_error(bins), [0.6 / 10, 4.8 / 10])
    assert calibration_error(bins.sum(0)) == pytest.approx(4.2 / 20), "errors of one bin may cancel"
    np.testing.assert_allclose(mean_over_pixels(np.array([5.0, 20.0]), bins), [0.5, 2.0])


def test_nothing_counted_has_no_calibration():
    nothing = np.zeros((2, 3, BINS))
    assert np.isnan(calibration_error(nothing)).all()
    assert np.isnan(mean_over_pixels(np.zeros(2), nothing)).all()
