from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_data
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from rc2l_bench.config import CenterCrop, EvalConfig
from rc2l_bench.metrics import BINS
from rc2l_bench.run.calibration import Calibration
from rc2l_bench.run.evaluate import (
    Evaluation,
    Images,
    by_size,
    count_confusion,
    crop_center,
    evaluate,
    merge,
    predict_classes,
    window_starts,
)

CPU = torch.device("cpu")
COLOURS = torch.tensor([[1.0, -0.9137, 0.2971], [-0.5113, 0.9871, 0.1931], [0.2113, -0.4057, 0.9533]])


def spec(mode: str = "whole", scales=(1.0,), flip=False, **form) -> EvalConfig:
    protocol = {"mode": mode, **form}
    text = {"protocol": protocol, "scales": list(scales), "flip": flip, "absent": "skip", "evaluations": 1, "batch": 1}
    return EvalConfig.model_validate_json(json.dumps(text))


def sliding(window=(32, 32), stride=0.6, combine="logits", **rest) -> EvalConfig:
    return spec("sliding", window=list(window), stride=stride, combine=combine, **rest)


def drawn(images: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(256, (images, 3, height, width), generator=generator).to(torch.uint8)
    label = torch.randint(4, (images, height, width), generator=generator)
    return image, torch.tensor([0, 1, 2, 255])[label].to(torch.uint8)


def pointwise(image: Tensor) -> Tensor:
    """A network that looks at single pixels."""
    return torch.einsum("kc,bchw->bkhw", COLOURS, image)


def lopsided(image: Tensor) -> Tensor:
    """A network that looks at the pixel to the left."""
    return pointwise(image.roll(1, -1)) + pointwise(image) * 0.1


def classes(predict, image: Tensor, how: EvalConfig, image_scale: float = 1.0) -> Tensor:
    return predict_classes(predict, image, how, image_scale, CPU)


def by_hand(image: Tensor) -> Tensor:
    return torch.einsum("kc,bchw->bkhw", COLOURS, image.float() / 255).argmax(1)


def scored(images: list[Images], how: EvalConfig, image_scale: float = 1.0) -> Evaluation:
    return evaluate(pointwise, images, how, image_scale=image_scale, num_classes=3, device=CPU)


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (37, 53), (32, 64), (65, 3)])
def test_whole_images_of_any_size_are_predicted_at_their_own_size(size):
    image, _ = drawn(2, *size)
    assert torch.equal(classes(pointwise, image, spec()), by_hand(image))


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (65, 3)])
@pytest.mark.parametrize("how", [spec(), sliding()])
def test_a_network_sees_pixels_of_the_image_and_no_padding(size, how):
    seen = []

    def predict(image: Tensor) -> Tensor:
        seen.append(image)
        return pointwise(image)

    image = torch.full((1, 3, *size), 200, dtype=torch.uint8)
    classes(predict, image, how)
    assert all((part == 200 / 255).all() for part in seen)
    largest = (32, 32) if how.protocol.mode == "sliding" else size
    assert {tuple(part.shape[-2:]) for part in seen} == {(min(size[0], largest[0]), min(size[1], largest[1]))}


@given(length=st.integers(1, 300), window=st.integers(8, 200), stride=st.floats(0.01, 1))
def test_windows_cover_everything_and_stay_inside(length, window, stride):
    starts = window_starts(length, window, stride)
    covered = np.zeros(max(length, window), bool)
    for start in starts:
        assert start >= 0
        assert start + window <= max(length, window)
        covered[start : start + window] = True
    assert covered.all()
    assert starts == sorted(set(starts)), "no window twice"


@pytest.mark.parametrize(
    ("length", "window", "stride", "starts"),
    [(10, 4, 0.5, [0, 2, 4, 6]), (11, 4, 0.5, [0, 2, 4, 6, 7]), (4, 4, 0.5, [0]), (3, 4, 0.5, [0]),
     (1024, 512, 2 / 3, [0, 342, 512]), (12, 4, 1.0, [0, 4, 8]), (5, 4, 1.0, [0, 1])],
)  # fmt: skip
def test_windows_start_where_expected(length, window, stride, starts):
    assert window_starts(length, window, stride) == starts


@pytest.mark.parametrize("combine", ["logits", "sum", "softmax"])
@pytest.mark.parametrize("size", [(32, 32), (33, 70), (20, 90), (7, 9)])
def test_sliding_a_pointwise_network_is_predicting_the_whole(combine, size):
    image, _ = drawn(2, *size)
    if combine == "sum":  # Pixels in several windows count more there, but every class alike.
        assert torch.equal(classes(pointwise, image, sliding(combine="sum")), by_hand(image))
        return
    assert torch.equal(classes(pointwise, image, sliding(combine=combine)), by_hand(image))


@pytest.mark.parametrize("window", [(40, 24), (8, 8), (33, 31)])
def test_windows_need_not_be_multiples_of_32(window):
    image, _ = drawn(1, 50, 50)
    assert torch.equal(classes(pointwise, image, sliding(window)), by_hand(image))


def test_overlapping_windows_are_combined_as_asked():
    """In columns 16..31 of 48 two windows meet; the first one is sure of class 0, the second one leans to class 1."""

    def predict(image: Tensor) -> Tensor:
        first = bool(image[0, 0, 0, 0] > 0.5)
        scores = torch.zeros(1, 3, *image.shape[-2:])
        scores[:, 0 if first else 1] = 3.0 if first else 4.0
        scores[:, 2] = 0.0 if first else 3.9
        return scores

    image = torch.zeros(1, 3, 32, 48, dtype=torch.uint8)
    image[..., 0] = 255
    found = {
        how: classes(predict, image, sliding(stride=0.5, combine=how))[0, 0].tolist()
        for how in ("logits", "softmax", "sum")
    }
    assert found["logits"] == found["sum"] == [0] * 16 + [1] * 32
    assert found["softmax"] == [0] * 32 + [1] * 16


def test_mirroring_makes_the_prediction_symmetric():
    image, _ = drawn(1, 32, 64)
    how = spec(flip=True)
    assert torch.equal(classes(lopsided, image.flip(-1), how), classes(lopsided, image, how).flip(-1))
    alone = spec()
    assert not torch.equal(classes(lopsided, image.flip(-1), alone), classes(lopsided, image, alone).flip(-1))


@pytest.mark.parametrize("scales", [(0.5, 1.0, 1.75), (2.0,)])
def test_several_scales_mirror_like_one(scales):
    image, _ = drawn(1, 32, 64)
    how = spec(scales=scales, flip=True)
    same = classes(pointwise, image.flip(-1), how) == classes(pointwise, image, how).flip(-1)
    assert same.float().mean() > 0.995


def test_scales_are_averaged_as_probabilities():
    sizes = []

    def predict(image: Tensor) -> Tensor:
        sizes.append(tuple(image.shape[-2:]))
        scores = torch.zeros(1, 3, *image.shape[-2:])
        scores[:, 0], scores[:, 1] = (3.0, 0.0) if image.shape[-1] == 64 else (0.0, 2.9)
        return scores

    image, _ = drawn(1, 64, 64)
    assert (classes(predict, image, spec(scales=[1.0, 0.5])) == 0).all()
    assert (classes(predict, image, spec(scales=[1.0, 0.5, 0.4])) == 1).all()
    assert sizes == [(64, 64), (32, 32)] * 2 + [(26, 26)]


def test_the_image_scale_is_what_the_network_sees_and_not_what_is_counted():
    seen = []

    def predict(image: Tensor) -> Tensor:
        seen.append(tuple(image.shape[-2:]))
        return pointwise(image)

    image, _ = drawn(1, 64, 128)
    assert classes(predict, image, spec(), image_scale=0.5).shape == (1, 64, 128)
    assert seen == [(32, 64)]


def test_a_tiny_image_at_a_small_scale_keeps_a_pixel():
    image, _ = drawn(1, 1, 3)
    assert classes(pointwise, image, spec(), image_scale=0.1).shape == (1, 1, 3)


def test_counts_are_of_the_masks_own_pixels():
    image, label = drawn(2, 37, 53)
    found = scored([Images(ids=["b", "a"], image=image, label=label)], spec(), image_scale=0.5)
    assert found.ids == ["a", "b"]
    assert found.confusion.dtype == np.int32
    assert found.confusion.sum((1, 2)).tolist() == [(label[1] != 255).sum(), (label[0] != 255).sum()]


def test_counts_do_not_depend_on_the_batches():
    image, label = drawn(5, 33, 40)
    names = ["a", "b", "c", "d", "e"]
    whole = scored([Images(ids=names, image=image, label=label)], spec())
    parts = [Images(ids=names[i : i + 2], image=image[i : i + 2], label=label[i : i + 2]) for i in (4, 0, 2)]
    again = scored(parts, spec())
    assert whole.ids == again.ids
    assert np.array_equal(whole.confusion, again.confusion)


@pytest.mark.parametrize(
    "how",
    [spec(), spec(scales=(0.5, 1.0), flip=True), sliding(combine="softmax"), spec("center_crop", window=[16, 24])],
)
def test_confidences_are_of_the_same_pixels_and_predictions_as_the_counts(how):
    image, label = drawn(5, 33, 40)
    seen = []

    def predict(x: Tensor) -> Tensor:
        seen.append(len(x))
        return pointwise(x)

    groups = [Images(ids=list(ids), image=image[i], label=label[i]) for ids, i in (("ec", [4, 2]), ("abd", [0, 1, 3]))]
    options = {"image_scale": 1.0, "num_classes": 3, "device": CPU}
    plain = evaluate(predict, groups, how, **options)
    once = len(seen)
    found = evaluate(predict, groups, how, **options, calibrate=True)
    assert plain.calibration is None
    assert np.array_equal(plain.confusion, found.confusion)
    assert len(seen) == 2 * once, "no pass of its own"
    bins = found.calibration.bins
    assert bins[:, 0].sum(1).tolist() == found.confusion.sum((1, 2)).tolist()
    assert bins[:, 1].sum(1).tolist() == found.confusion.trace(axis1=1, axis2=2).tolist()
    assert (bins[:, 2] <= bins[:, 0]).all()


def test_no_images_have_no_confidences():
    found = evaluate(pointwise, [], spec(), image_scale=1.0, num_classes=3, device=CPU, calibrate=True)
    assert found.calibration.bins.shape[0] == len(found.calibration.nll) == 0


def test_no_images_are_no_trouble():
    assert scored([], spec()).confusion.shape == (0, 3, 3)


def test_evaluation_builds_no_graph():
    weight = torch.ones(3, requires_grad=True)
    image, _ = drawn(1, 32, 32)
    assert not classes(lambda x: pointwise(x) * weight.view(1, 3, 1, 1), image, spec()).requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("size", "image_scale", "place"),
    [((40, 60), 1.0, (4, 36, 14, 46)), ((41, 61), 1.0, (4, 36, 14, 46)), ((100, 100), 0.5, (18, 82, 18, 82)),
     ((20, 60), 1.0, (0, 20, 14, 46)), ((20, 20), 1.0, (0, 20, 0, 20))],
)  # fmt: skip
def test_the_middle_is_cut_out(size, image_scale, place):
    image, label = drawn(1, *size)
    form = spec("center_crop", window=[32, 32]).protocol
    assert isinstance(form, CenterCrop)
    middle = crop_center(Images(ids=["a"], image=image, label=label), form, image_scale)
    top, bottom, left, right = place
    assert torch.equal(middle.label, label[:, top:bottom, left:right])
    assert torch.equal(middle.image, image[:, :, top:bottom, left:right])


def test_only_the_middle_is_counted():
    image, label = drawn(1, 40, 60)
    found = scored([Images(ids=["a"], image=image, label=label)], spec("center_crop", window=[32, 32]))
    assert found.confusion.sum() == (label[:, 4:36, 14:46] != 255).sum()


def test_images_are_grouped_by_size():
    image, label = drawn(5, 40, 48)
    size = torch.tensor([(40, 48), (20, 30), (40, 48), (20, 31), (20, 30)])
    groups = list(by_size(list("abcde"), image, label, size))
    assert [(group.ids, tuple(group.label.shape[1:])) for group in groups] == [
        (["b", "e"], (20, 30)),
        (["d"], (20, 31)),
        (["a", "c"], (40, 48)),
    ]
    assert torch.equal(groups[0].image, image[[1, 4], :, :20, :30])
    assert torch.equal(groups[0].label, label[[1, 4], :20, :30])


def test_what_several_processes_found_is_put_together_without_counting_twice():
    counts = np.arange(5 * 9, dtype=np.int32).reshape(5, 3, 3)
    first = Evaluation(ids=["c", "a"], confusion=counts[[2, 0]])
    second = Evaluation(ids=["b", "a"], confusion=counts[[1, 0]])
    nothing = Evaluation(ids=[], confusion=counts[:0])
    whole = merge([first, second, nothing])
    assert whole.ids == ["a", "b", "c"]
    assert np.array_equal(whole.confusion, counts[:3])
    assert whole.calibration is None


def test_confidences_of_several_processes_are_put_together_with_their_images():
    counts, bins, nll = np.zeros((3, 2, 2), np.int32), np.random.default_rng(0).random((3, 3, BINS)), np.arange(3.0)
    parts = [
        Evaluation(ids=[*ids], confusion=counts[rows], calibration=Calibration(bins=bins[rows], nll=nll[rows]))
        for ids, rows in (("ca", [2, 0]), ("ba", [1, 0]), ("", []))
    ]
    found = merge(parts).calibration
    assert np.array_equal(found.bins, bins)
    assert found.nll.tolist() == [0, 1, 2]


def test_a_real_network_is_scored_alike_at_any_batch_size(tiny):
    from rc2l_bench.data.loader import evaluation_batches
    from rc2l_bench.data.shards import Shards
    from rc2l_bench.nets.pixel_net import PixelNet

    torch.manual_seed(0)
    net = PixelNet(tiny_data.protocol().net, 3).eval()
    found = []
    for batch in (1, 3):
        raws = evaluation_batches(Shards(tiny / "val"), batch=batch)
        images = (group for raw in raws for group in by_size(raw.ids, raw.image, raw.label, raw.size))
        found.append(evaluate(net, images, spec(), image_scale=1.0, num_classes=3, device=CPU))
    assert found[0].ids == found[1].ids == [sample.id for sample in tiny_data.samples("val")]
    assert np.array_equal(found[0].confusion.sum((1, 2)), found[1].confusion.sum((1, 2)))
    assert np.abs(found[0].confusion - found[1].confusion).sum() <= 2, "up to rounding in the last bit"


def drawn_labels(images: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
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
    prediction, label = drawn_labels(3, classes)
    found = count_confusion(prediction, label.to(kind), classes)
    assert found.dtype == torch.int64
    if classes == 1:
        assert found.flatten().tolist() == [(image != 255).sum() for image in label]
        return
    for i in range(3):
        rival = MulticlassConfusionMatrix(classes, ignore_index=255)
        assert torch.equal(found[i], rival(prediction[i], label[i].long()))


def test_every_pixel_that_is_not_ignored_is_counted_once():
    prediction, label = drawn_labels(4, 7)
    assert torch.equal(count_confusion(prediction, label, 7).sum((1, 2)), (label != 255).sum((1, 2)))


def test_any_label_beyond_the_classes_is_ignored():
    label = torch.tensor([[[3, 7, 254, 255, 0]]], dtype=torch.uint8)
    assert count_confusion(torch.zeros_like(label).long(), label, 3).sum() == 1


def test_images_do_not_mix():
    prediction, label = drawn_labels(5, 4)
    together = count_confusion(prediction, label, 4)
    alone = torch.cat([count_confusion(prediction[i : i + 1], label[i : i + 1], 4) for i in range(5)])
    assert torch.equal(together, alone)


def test_no_images_give_no_counts():
    assert count_confusion(torch.zeros(0, 4, 4).long(), torch.zeros(0, 4, 4).byte(), 3).shape == (0, 3, 3)


def test_counting_leaves_its_arguments_alone():
    prediction, label = drawn_labels(2, 5)
    before = prediction.clone(), label.clone()
    count_confusion(prediction, label, 5)
    count_confusion(prediction, label.int(), 5)
    assert torch.equal(prediction, before[0])
    assert torch.equal(label, before[1])
