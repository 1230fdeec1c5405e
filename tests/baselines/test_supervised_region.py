"""The network of region-level methods on labelled images alone."""

from __future__ import annotations

import pytest
import torch
from method_data import CLASSES, make, make_batch

from rc2l_bench.losses.set_loss import set_loss
from rc2l_bench.nets.region_net import RegionNet


def test_its_loss_is_the_set_loss_of_its_own_numbers():
    method = make("baselines/supervised_region").eval()
    batch = make_batch(method)
    expected = set_loss(method.student.segment(batch.image), batch.label, method.config.set_loss)
    losses = method(batch, 0.5)
    assert list(losses) == ["supervised"]
    torch.testing.assert_close(losses["supervised"], expected)


@pytest.mark.parametrize("name", ["class_weight", "focal_weight", "dice_weight"])
def test_every_weight_of_its_yaml_counts(name):
    method, other = (make("baselines/supervised_region", changes).eval() for changes in ({}, {f"set_loss.{name}": 0.0}))
    batch = make_batch(method)
    assert method(batch, 0.5)["supervised"] > other(batch, 0.5)["supervised"]


def test_its_region_network_is_scored_and_no_unlabelled_image_is_looked_at():
    method = make("baselines/supervised_region").eval()
    assert isinstance(method.deployed(), RegionNet)
    assert method.deployed() is method.student
    assert method.deployed()(torch.rand(2, 3, 32, 32)).shape == (2, CLASSES, 32, 32)
    assert len(make_batch(method).weak) == 0
