from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import MulticlassCalibrationError

from rc2l_bench.metrics import BINS, calibration_error, mean_over_pixels
from rc2l_bench.run.calibration import Calibration, count_calibration, join


def drawn(images: int, classes: int, seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Logits that are right more often than by chance, and masks with pixels that are not counted."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(classes, (images, 19, 23), generator=generator)
    logits = scale * torch.randn(images, classes, 19, 23, generator=generator)
    logits += scale * F.one_hot(label, classes).movedim(-1, 1)
    label = label.to(torch.uint8)
    label[torch.rand(label.shape, generator=generator) < 0.2] = 255
    return logits, label


def counted(logits: Tensor, label: Tensor) -> Calibration:
    best, prediction = logits.max(1)
    return count_calibration(logits, best, prediction.to(label.dtype), label)


def error(found: Calibration) -> float:
    return float(calibration_error(found.bins.sum(0)))


@pytest.mark.parametrize("classes", [2, 6, 21, 255])
@pytest.mark.parametrize("scale", [0.5, 2.0, 6.0])
def test_the_error_is_that_of_torchmetrics(classes, scale):
    logits, label = drawn(3, classes, scale=scale)
    rival = MulticlassCalibrationError(classes, n_bins=BINS, norm="l1", ignore_index=255)
    expected = rival(logits.double(), label.long())
    found = counted(logits, label)
    assert error(found) == pytest.approx(float(expected), abs=2e-6)
    assert [float(x) for x in calibration_error(found.bins)] == pytest.approx(
        [float(rival(one[None].double(), truth[None].long())) for one, truth in zip(logits, label, strict=True)],
        abs=2e-6,
    )


@pytest.mark.parametrize("classes", [2, 6, 255])
def test_the_likelihood_is_that_of_torch(classes):
    logits, label = drawn(3, classes)
    found = counted(logits, label)
    expected = F.cross_entropy(logits.double(), label.long(), ignore_index=255)
    assert float(mean_over_pixels(found.nll.sum(), found.bins.sum(0))) == pytest.approx(float(expected), rel=1e-6)
    single = F.cross_entropy(logits.double(), label.long(), ignore_index=255, reduction="none").sum((1, 2))
    np.testing.assert_allclose(found.nll, single.numpy(), rtol=1e-6)


def test_log_probabilities_and_labels_of_other_types_give_the_same():
    logits, label = drawn(2, 5)
    found, again = counted(logits, label), counted(logits.log_softmax(1), label.long())
    np.testing.assert_array_equal(found.bins[:, 0], again.bins[:, 0])
    np.testing.assert_allclose(found.bins, again.bins, rtol=1e-5)
    np.testing.assert_allclose(found.nll, again.nll, rtol=1e-5)


def test_bins_are_those_counted_by_hand():
    """Confidences 0.5, 0.5, 0.9 and 1, of which the second and the last are right, and one that is not counted."""
    chance = torch.tensor([[0.5, 0.5, 0.9, 1.0, 0.6], [0.5, 0.5, 0.1, 0.0, 0.4]])
    label = torch.tensor([[[1, 0, 1, 0, 255]]], dtype=torch.uint8)
    found = counted(chance.log().view(1, 2, 1, 5), label)
    expected = np.zeros((3, BINS))
    expected[:, 7], expected[:, 13], expected[:, 14] = (2, 1, 1.0), (1, 0, 0.9), (1, 1, 1.0)
    np.testing.assert_allclose(found.bins[0], expected, atol=1e-6)
    assert error(found) == pytest.approx(0.9 / 4)
    assert found.nll[0] == pytest.approx(2 * math.log(2) + math.log(10))


def test_a_bin_holds_its_upper_end():
    """Of three equal classes one has a confidence of 1/3, the end of the fifth of 15 bins."""
    found = counted(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8))
    assert found.bins[0, 0].tolist() == [4 * (b == 4) for b in range(BINS)]


def test_predictions_that_are_entirely_sure_are_in_the_last_bin():
    logits = torch.full((1, 4, 3, 3), -1e4)
    logits[:, 2] = 1e4
    found = counted(logits, torch.full((1, 3, 3), 2, dtype=torch.uint8))
    assert found.bins[0, :, -1].tolist() == [9, 9, 9]
    assert found.nll[0] == 0


def test_what_is_not_counted_may_have_no_likelihood_at_all():
    logits = torch.zeros(1, 3, 2, 2)
    logits[:, 2] = -math.inf
    found = counted(logits, torch.tensor([[[0, 255], [255, 1]]], dtype=torch.uint8))
    assert found.nll[0] == pytest.approx(2 * math.log(2))


def test_images_do_not_mix_and_parts_can_be_joined():
    logits, label = drawn(5, 4)
    together = counted(logits, label)
    parts = join([counted(logits[i : i + 1], label[i : i + 1]) for i in range(5)])
    np.testing.assert_array_equal(together.bins, parts.bins)
    np.testing.assert_array_equal(together.nll, parts.nll)
    assert together.take([3, 1]).nll.tolist() == [together.nll[3], together.nll[1]]


def test_no_images_have_no_error():
    nothing = join([])
    assert nothing.bins.shape == (0, 3, BINS)
    assert math.isnan(error(nothing))


def test_counting_leaves_its_arguments_alone():
    logits, label = drawn(2, 5)
    best, prediction = logits.max(1)
    before = [x.clone() for x in (logits, best, prediction, label)]
    count_calibration(logits, best, prediction.to(label.dtype), label)
    assert all(torch.equal(a, b) for a, b in zip(before, (logits, best, prediction, label), strict=True))
