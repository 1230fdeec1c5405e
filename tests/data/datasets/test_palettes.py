"""Colours by rule."""

from __future__ import annotations

from rc2l_bench.data.datasets.palettes import by_bits
from rc2l_bench.data.datasets.voc import Voc


def test_the_rule_gives_the_colours_of_voc():
    assert by_bits(0, 21) == Voc.palette


def test_no_two_of_256_colours_are_equal():
    assert len(set(by_bits(0, 256))) == 256
    assert by_bits(0, 256)[100:] == by_bits(100, 156)
