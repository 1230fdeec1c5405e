"""A batch: shapes that do not fit together are noticed where it is made."""

from __future__ import annotations

import pytest
import torch

from rc2l_bench.types import Batch

SHAPES = {
    "image": (2, 3, 8, 6), "label": (2, 8, 6), "weak": (4, 3, 8, 6), "strong": (1, 4, 3, 8, 6), "box": (1, 4, 8, 6),
    "valid": (4, 8, 6),
}  # fmt: skip


def test_a_batch_is_made_again_of_its_tensors():
    tensors = {name: torch.rand(shape) for name, shape in SHAPES.items()}
    again = Batch(**Batch(**tensors).tensors())
    assert all(getattr(again, name) is tensor for name, tensor in tensors.items())


@pytest.mark.parametrize(("name", "shape"), [
    ("label", (1, 8, 6)), ("label", (2, 6, 8)), ("weak", (3, 3, 8, 6)), ("weak", (4, 1, 8, 6)),
    ("box", (2, 4, 8, 6)), ("box", (1, 4, 6, 8)), ("valid", (4, 8, 5)), ("image", (2, 3, 9, 6)),
])  # fmt: skip
def test_shapes_that_do_not_fit_together_are_noticed(name, shape):
    with pytest.raises(AssertionError):
        Batch(**{key: torch.rand(size) for key, size in (SHAPES | {name: shape}).items()})


def test_a_batch_may_have_no_unlabelled_images():
    none = {"weak": (0, 3, 8, 6), "strong": (0, 0, 3, 8, 6), "box": (0, 0, 8, 6), "valid": (0, 8, 6)}
    assert len(Batch(**{name: torch.rand(shape) for name, shape in (SHAPES | none).items()}).weak) == 0
