"""Methods whose losses are means over pixels that the batch alone tells."""

from __future__ import annotations

from dataclasses import replace

import pytest
from method_data import ADDING_UP, METHODS, make, make_batch

from rc2l_bench.methods.pixel_means import PixelMeans
from rc2l_bench.types import Batch


def half(batch: Batch, first: bool) -> Batch:
    """Two images of each kind."""
    rows = slice(0, 2) if first else slice(2, 4)
    plain = {name: getattr(batch, name)[rows] for name in ("image", "label", "weak", "valid")}
    return replace(batch, **plain, strong=batch.strong[:, rows], box=batch.box[:, rows])


def test_methods_that_add_up_are_those_that_say_so():
    assert [name for name in METHODS if isinstance(make(name), PixelMeans)] == ADDING_UP


@pytest.mark.parametrize("name", ADDING_UP)
def test_every_loss_has_its_pixels_and_those_of_the_halves_are_those_of_the_batch(name):
    method = make(name)
    batch = make_batch(method)
    whole, parts = method.pixels(batch), [method.pixels(half(batch, first)) for first in (True, False)]
    assert list(whole) == list(method(batch, 0.5))
    assert {key: int(value) for key, value in whole.items()} == {
        key: sum(int(part[key]) for part in parts) for key in whole
    }
    assert parts[0] != parts[1], "ignored pixels and padding are in the first half"
