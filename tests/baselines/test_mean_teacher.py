"""What each pixel-level method does that no other does."""

from __future__ import annotations

import math

import pytest
import torch
from method_data import make, make_batch

from baselines.mean_teacher import MeanTeacher, ramp_up
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.pixel_losses import squared_error


def test_mean_teacher_compares_with_the_mixed_distribution_of_the_teacher() -> None:
    method = make("baselines/mean_teacher", {"ramp": 0.5, "weight": 3.0}).eval()
    assert isinstance(method, MeanTeacher)
    batch = make_batch(method)
    box = batch.box[0]
    target = paste(method.teacher(batch.weak).softmax(1), box)
    error = squared_error(method.student(paste(batch.strong[0], box)), target, paste(batch.valid, box))
    expected = 3 * math.exp(-5 * 0.25) * error
    assert torch.allclose(method(batch, 0.25)["consistency"], expected, rtol=1e-4)


def test_the_ramp_of_mean_teacher_ends_where_it_should() -> None:
    assert ramp_up(0.0, 0.4) == pytest.approx(math.exp(-5))
    assert ramp_up(0.2, 0.4) == pytest.approx(math.exp(-1.25))
    assert ramp_up(0.4, 0.4) == ramp_up(0.0, 0.0) == 1.0
