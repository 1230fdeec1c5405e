from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from rc2l_bench.metrics import class_iou, count_confusion, mean_iou, pixel_accuracy


def drawn(images: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randint(classes, (images, 17, 23), generator=generator)
    label = torch.randint(classes, (images, 17, 23), generator=generator).to(torch.uint8)
    label[torch.rand(label.shape, generator=generator) < 0.2] = 255
    return prediction, label


def test_counts_are_those_counted_by_hand():
    prediction = torch.tensor([[[0, 1, 2], [2, 2, 0]]])
    label = torch.tensor([[[0, 1, 1], [2, 255, 2]]], dtype=torch.uint8)
    assert count_confusion(prediction, label, 3).tolist() == [[[1, 0, 0], [0, 1, 1], [1, 0, 1]]]


@pytest.mark.parametrize("classes", [1, 2, 12, 150, 254, 255])
@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int64])
def test_counts_are_those_of_torchmetrics(classes, kind):
    prediction, label = drawn(3, classes)
    found = count_confusion(prediction, label.to(kind), classes)
    assert found.dtype == torch.int64
    if classes == 1:
        assert found.flatten().tolist() == [(image != 255).sum() for image in label]
        return
    for i in range(3):
        rival = MulticlassConfusionMatrix(classes, ignore_index=255)
        assert torch.equal(found[i], rival(prediction[i], label[i].long()))


def test_every_pixel_that_is_not_ignored_is_counted_once():
    prediction, label = drawn(4, 7)
    assert torch.equal(count_confusion(prediction, label, 7).sum((1, 2)), (label != 255).sum((1, 2)))


def test_any_label_beyond_the_classes_is_ignored():
    label = torch.tensor([[[3, 7, 254, 255, 0]]], dtype=torch.uint8)
    assert count_confusion(torch.zeros_like(label).long(), label, 3).sum() == 1


def test_images_do_not_mix():
    prediction, label = drawn(5, 4)
    together = count_confusion(prediction, label, 4)
    alone = torch.cat([count_confusion(prediction[i : i + 1], label[i : i + 1], 4) for i in range(5)])
    assert torch.equal(together, alone)


def test_no_images_give_no_counts():
    assert count_confusion(torch.zeros(0, 4, 4).long(), torch.zeros(0, 4, 4).byte(), 3).shape == (0, 3, 3)


def test_counting_leaves_its_arguments_alone():
    prediction, label = drawn(2, 5)
    before = prediction.clone(), label.clone()
    count_confusion(prediction, label, 5)
    count_confusion(prediction, label.int(), 5)
    assert torch.equal(prediction, before[0])
    assert torch.equal(label, before[1])


def test_iou_is_that_computed_by_hand():
    confusion = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    np.testing.assert_allclose(class_iou(confusion), [6 / 9, 3 / 6, np.nan])


def test_a_class_that_is_nowhere_is_skipped():
    assert mean_iou(np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])) == pytest.approx((6 / 9 + 3 / 6) / 2)


def test_a_class_that_is_only_predicted_counts_as_zero():
    assert mean_iou(np.array([[4, 4], [0, 0]])) == pytest.approx((0.5 + 0) / 2)


def test_a_class_that_is_never_found_counts_as_zero():
    assert mean_iou(np.array([[4, 0], [4, 0]])) == pytest.approx((0.5 + 0) / 2)


def test_iou_takes_several_sets_at_once():
    sets = np.random.default_rng(0).integers(0, 9, (3, 4, 4))
    np.testing.assert_array_equal(class_iou(sets), [class_iou(one) for one in sets])


def test_nothing_counted_is_not_a_number():
    nothing = np.zeros((3, 3), np.int64)
    assert math.isnan(mean_iou(nothing))
    assert math.isnan(pixel_accuracy(nothing))


def test_accuracy_is_the_share_of_right_pixels():
    assert pixel_accuracy(np.array([[6, 2], [1, 3]])) == 9 / 12


def test_large_counts_do_not_overflow():
    confusion = np.full((2, 2), 2**31 - 1, np.int32)
    assert mean_iou(confusion) == pytest.approx(1 / 3)
    assert pixel_accuracy(confusion) == 0.5
