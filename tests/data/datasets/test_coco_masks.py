"""From outlines to masks of classes."""

from __future__ import annotations

import coco_data
import numpy as np
import pytest
from coco_data import box, runs

from rc2l_bench.data.datasets.coco_masks import paint
from rc2l_bench.data.datasets.coco_regions import Region
from rc2l_bench.errors import BenchError

pytest.importorskip("pycocotools", reason="pycocotools is not installed")
SIZE = (20, 30)


def painted(*regions: Region) -> np.ndarray:
    return paint(SIZE, regions, "somewhere")


def inside(polygon: list[float]) -> np.ndarray:
    """Slow reference: pixels whose centres lie inside, by the number of edges on their left."""
    points = np.array(polygon).reshape(-1, 2)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    odd = np.zeros(SIZE, bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
        if y0 != y1:
            odd ^= ((y0 > y) != (y1 > y)) & (x > x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return odd


def test_a_box_fills_its_pixels():
    wanted = np.zeros(SIZE, np.uint8)
    wanted[3:10, 5:21] = 7
    assert np.array_equal(painted(Region(7, False, [box(5, 3, 21, 10)])), wanted)


def test_a_polygon_fills_the_pixels_whose_centres_are_inside():
    polygon = [3.3, 2.2, 26.1, 5.7, 20.4, 17.9, 11.0, 9.5, 4.2, 18.1]
    found = painted(Region(1, False, [polygon])) == 1
    wanted = inside(polygon)
    border = (wanted != np.roll(wanted, 1, 0)) | (wanted != np.roll(wanted, 1, 1))
    border |= np.roll(border, -1, 0) | np.roll(border, -1, 1)
    assert np.array_equal(found[~border], wanted[~border])
    assert abs(int(found.sum()) - int(wanted.sum())) < 0.1 * wanted.sum()


def test_polygons_of_one_region_are_united():
    found = painted(Region(2, False, [box(0, 0, 5, 5), box(3, 3, 9, 9)]))
    assert int((found == 2).sum()) == 25 + 36 - 4


@pytest.mark.parametrize("first", [True, False])
def test_run_lengths_are_the_mask_that_they_were_made_of(first):
    mask = np.random.default_rng(0).random(SIZE) < 0.3
    mask[0, 0] = first
    assert np.array_equal(painted(Region(9, False, runs(mask))) == 9, mask)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_smaller_region_lies_in_front(order):
    both = [Region(1, False, [box(0, 0, 20, 20)]), Region(2, False, [box(5, 5, 10, 10)])]
    found = painted(*(both[place] for place in order))
    assert int((found == 2).sum()) == 25
    assert int((found == 1).sum()) == 400 - 25


def test_of_two_of_one_size_the_later_one_lies_in_front():
    assert set(np.unique(painted(Region(1, False, [box(0, 0, 9, 9)]), Region(2, False, [box(0, 0, 9, 9)])))) == {0, 2}


def test_a_crowd_lies_behind_however_small_it_is():
    crowd = np.zeros(SIZE, bool)
    crowd[2:6, 2:6] = True
    found = painted(Region(1, False, [box(0, 0, 4, 20)]), Region(2, True, runs(crowd)))
    assert int((found == 2).sum()) == 8
    assert int((found == 1).sum()) == 80


def test_what_has_no_area_and_no_regions_paint_nothing():
    assert not painted().any()
    assert not painted(Region(3, False, [[1, 1, 5, 5]]), Region(4, False, [])).any()


def test_the_scene_of_the_other_tests_is_as_it_should_be():
    regions = coco_data.regions_of(9)
    labels = {coco_data.PERSON: 1, coco_data.DOG: 17, coco_data.ZEBRA: 23}
    rows = [Region(labels[r["category_id"]], bool(r["iscrowd"]), r["segmentation"]) for r in regions]
    assert np.array_equal(paint(coco_data.size_of(9), rows, "9"), coco_data.classes_of(9))


@pytest.mark.parametrize(("outline", "fault"), [
    ({"size": [20, 30], "counts": [100, 600]}, "do not add up to 20×30 pixels"),
    ({"size": [20, 30], "counts": [-10, 610]}, "do not add up"),
    ({"size": [20, 30], "counts": [1.5, 598.5]}, "do not add up"),
    ({"size": [30, 20], "counts": [600]}, "run lengths of another image"),
    ({"size": [20, 30], "counts": "PPo1"}, "run lengths of another image"),
    ([[1, 1, 5, 5, 9]], "no list of x and y in turn"),
    ([[1, 1, "5", 5, 9, 9]], "no list of x and y in turn"),
    ([[1, 1, 1e9, 5, 9, 9]], "a polygon far outside of the image of 20×30 pixels"),
    ([[1, 1, float("nan"), 5, 9, 9]], "far outside"),
    ([7], "no list of x and y in turn"),
    ("x", "a region is str, expected polygons or run lengths"),
])  # fmt: skip
def test_an_outline_that_cannot_be_is_refused_before_it_is_painted(outline, fault):
    with pytest.raises(BenchError, match=rf"^somewhere: .*{fault}"):
        painted(Region(1, False, outline))
