"""Colours for data sets whose publishers have none, or several."""

from __future__ import annotations


def by_bits(first: int, count: int) -> tuple[tuple[int, int, int], ...]:
    """Give labels the colours that PASCAL VOC's rule has for numbers: far apart for numbers that are near.

    Every third bit of the number, from the lowest on, becomes a bit of red, green or blue, from the highest down.

    Args:
        first: number of label 0; 0 is black.
        count: of labels; first + count is at most 256.

    Returns:
        Red, green, blue, 0..255; no two are equal.
    """
    return tuple((_channel(n, 0), _channel(n, 1), _channel(n, 2)) for n in range(first, first + count))


def _channel(number: int, shift: int) -> int:
    return sum((number >> (3 * bit + shift) & 1) << (7 - bit) for bit in range(8))
