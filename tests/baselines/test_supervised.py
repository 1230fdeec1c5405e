"""The reference of every other method: the protocol's supervised loss, and nothing else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from method_data import SIZE, make, make_batch

from rc2l_bench.losses.pixel_losses import SUPERVISED
from rc2l_bench.types import IGNORE


def test_its_loss_is_the_mean_cross_entropy_of_labelled_pixels():
    method = make("baselines/supervised").eval()
    batch = make_batch(method)
    expected = F.cross_entropy(method.student(batch.image), batch.label, ignore_index=IGNORE)
    losses = method(batch, 0.5)
    assert list(losses) == ["supervised"]
    torch.testing.assert_close(losses["supervised"], expected)


def test_another_loss_is_that_of_the_protocol():
    method = make("baselines/supervised", supervised_loss="ohem").eval()
    batch = make_batch(method)
    expected = SUPERVISED["ohem"](method.student(batch.image), batch.label)
    assert method(batch, 0.5)["supervised"] == expected


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_its_loss_is_the_same_all_along(progress):
    method = make("baselines/supervised").eval()
    batch = make_batch(method)
    assert torch.equal(method(batch, progress)["supervised"], method(batch, 0.5)["supervised"])


def test_its_pixels_are_the_labelled_ones():
    method = make("baselines/supervised")
    assert {name: int(count) for name, count in method.pixels(make_batch(method)).items()} == {
        "supervised": 4 * SIZE * SIZE - 4 * SIZE,
    }  # fmt: skip


def test_it_is_given_no_unlabelled_image():
    method = make("baselines/supervised")
    assert len(make_batch(method).weak) == 0
    assert method.deployed() is method.student
