"""Paint COCO's regions into a mask of classes: pycocotools turns outlines into pixels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from rc2l_bench.data.datasets.coco_regions import Region
from rc2l_bench.data.decode import Pixels
from rc2l_bench.readers import DamagedFileError

LEAST = 6
"""Numbers of a polygon: fewer than three corners have no area."""


def paint(size: tuple[int, int], regions: Sequence[Region], where: str) -> Pixels:
    """Paint regions over one another, crowds first, then the others from large to small (our choice).

    What is small is in front of what is large more often than behind it, and crowds are outlined roughly.

    Args:
        size: height and width of the image, pixels.
        regions: of the image.
        where: they are from, for messages.

    Returns:
        (H, W) uint8: labels, 0 where there is no region.

    Raises:
        DamagedFileError: an outline is none, or lies outside of the image.
    """
    from pycocotools import mask as codec

    mask = np.zeros(size, np.uint8)
    found = [(region, code) for region in regions if (code := _encode(region.outline, size, where)) is not None]
    # Sorting is stable: of two that are equally large, the later one of the file lies in front.
    found.sort(key=lambda pair: (not pair[0].crowd, -int(codec.area(pair[1]))))
    with warnings.catch_warnings():
        # pycocotools makes its arrays in a way that NumPy 2 remarks on at every call.
        warnings.simplefilter("ignore", DeprecationWarning)
        for region, code in found:
            mask[codec.decode(code) > 0] = region.label
    return mask


def _encode(outline: Any, size: tuple[int, int], where: str) -> Any:  # noqa: ANN401 - JSON, and pycocotools has no types
    """A region in the form of pycocotools; None where it has no area.

    All is checked before: the library writes beyond its memory where runs are longer than the image.
    """
    from pycocotools import mask as codec

    if isinstance(outline, dict):
        _check_runs(outline, size, where)
        return codec.frPyObjects(outline, *size)
    if not isinstance(outline, list):
        raise DamagedFileError(f"{where}: a region is {type(outline).__name__}, expected polygons or run lengths")
    for polygon in outline:
        _check_polygon(polygon, size, where)
    whole = [polygon for polygon in outline if len(polygon) >= LEAST]
    return codec.merge(codec.frPyObjects(whole, *size)) if whole else None


def _check_runs(outline: dict[str, Any], size: tuple[int, int], where: str) -> None:
    counts = outline.get("counts")
    if outline.get("size") != list(size) or not isinstance(counts, list):
        raise DamagedFileError(f"{where}: run lengths of another image, expected 'counts' and 'size' {list(size)}")
    if not all(isinstance(count, int) and count >= 0 for count in counts) or sum(counts) != size[0] * size[1]:
        raise DamagedFileError(f"{where}: run lengths that do not add up to {size[0]}×{size[1]} pixels")


def _check_polygon(polygon: Any, size: tuple[int, int], where: str) -> None:  # noqa: ANN401 - JSON holds anything
    """Corners may lie a little outside, but memory grows with their distance."""
    if not isinstance(polygon, list) or len(polygon) % 2 or not all(isinstance(x, int | float) for x in polygon):
        raise DamagedFileError(f"{where}: a polygon that is no list of x and y in turn")
    height, width = size
    for numbers, length in ((polygon[0::2], width), (polygon[1::2], height)):
        if not all(-length <= x <= 2 * length for x in numbers):
            raise DamagedFileError(f"{where}: a polygon far outside of the image of {height}×{width} pixels")
