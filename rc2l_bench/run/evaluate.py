"""Predictions under a named protocol, counted image by image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rc2l_bench.config import CenterCrop, EvalConfig, Sliding
from rc2l_bench.run.calibration import Calibration, count_calibration, join

Predict = Callable[[Tensor], Tensor]


def count_confusion(prediction: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Counts pairs of true and predicted classes, image by image.

    Args:
        prediction: (B, H, W) integer, 0..K-1.
        label: (B, H, W) uint8 or integer, 0..K-1; anything else is ignored.
        num_classes: K.

    Returns:
        (B, K, K) int64; rows are true classes, columns predicted ones.
    """
    cells = (num_classes + 1) * num_classes
    # Counting waits for memory: bytes are read faster than integers.
    kind = torch.uint8 if cells <= 256 else torch.int32
    total = torch.zeros((len(label), num_classes, num_classes), dtype=torch.int64, device=label.device)
    for row, guess, truth in zip(total, prediction, label, strict=True):
        pair = truth.clamp(max=num_classes).to(kind).mul_(num_classes).add_(guess.to(kind))
        row.copy_(pair.flatten().bincount(minlength=cells)[: num_classes**2].view_as(row))
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Images of one size, with their masks.

    Attributes:
        ids: names of the B images.
        image: (B, 3, H, W) uint8.
        label: (B, H, W) uint8, 0..K-1 or 255.
    """

    ids: list[str]
    image: Tensor
    label: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        ids: names of the N images, sorted.
        confusion: (N, K, K) int32; rows are true classes, columns predicted ones.
        calibration: of the same images; None where it was not asked for.
    """

    ids: list[str]
    confusion: NDArray[np.int32]
    calibration: Calibration | None = None


def rescale(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Interpolate images or scores (B, C, h, w) bilinearly to a height and width; both cover the same picture."""
    return x if x.shape[-2:] == tuple(size) else F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def window_starts(length: int, window: int, stride: float) -> list[int]:
    """First pixels of windows that cover a length; the last window ends at its end.

    Args:
        length: pixels to cover.
        window: pixels of a window.
        stride: step as a share of the window; rounded up to whole pixels.
    """
    step = math.ceil(window * stride)
    count = max(0, math.ceil((length - window) / step)) + 1
    return [max(0, min(i * step, length - window)) for i in range(count)]


def _slide(predict: Predict, image: Tensor, spec: Sliding) -> Tensor:
    """Logits, or log-probabilities where windows are combined by softmax."""
    size = image.shape[-2:]
    # A smaller image is not padded: networks take any size, and padding is nothing to be looked at.
    window = [min(wanted, length) for wanted, length in zip(spec.window, size, strict=True)]
    tops, lefts = (window_starts(length, part, spec.stride) for length, part in zip(size, window, strict=True))
    total: Tensor | None = None
    count = torch.zeros(1, 1, *size, device=image.device)
    for top, left in product(tops, lefts):
        place = (..., slice(top, top + window[0]), slice(left, left + window[1]))
        scores = predict(image[place]).float()
        scores = scores.softmax(1) if spec.combine == "softmax" else scores
        if total is None:
            total = scores.new_zeros(len(image), scores.shape[1], *size)
        total[place] += scores
        count[place] += 1
    assert total is not None
    scores = total if spec.combine == "sum" else total / count
    return scores.clamp(min=1e-12).log() if spec.combine == "softmax" else scores


def _predict_scales(predict: Predict, image: Tensor, spec: EvalConfig, image_scale: float) -> Tensor:
    """Logits at the images' own size; probabilities are averaged over scales and mirror images."""
    size = image.shape[-2:]
    views = []
    for scale in spec.scales:
        factor = scale * image_scale
        small = rescale(image, (max(1, round(size[0] * factor)), max(1, round(size[1] * factor))))
        for flip in (False, True)[: 1 + spec.flip]:
            view = small.flip(-1) if flip else small
            mode = spec.protocol
            logits = _slide(predict, view, mode) if isinstance(mode, Sliding) else predict(view).float()
            views.append(rescale(logits.flip(-1) if flip else logits, size))
    if len(views) == 1:
        return views[0]
    return torch.stack([view.softmax(1) for view in views]).mean(0).clamp(min=1e-12).log()


def crop_center(images: Images, spec: CenterCrop, image_scale: float) -> Images:
    """Cuts the middle out of images and masks; smaller images stay as they are."""
    height, width = images.label.shape[-2:]
    h, w = (min(have, round(want / image_scale)) for have, want in zip((height, width), spec.window, strict=True))
    top, left = (height - h) // 2, (width - w) // 2
    window = (..., slice(top, top + h), slice(left, left + w))
    return Images(ids=images.ids, image=images.image[window], label=images.label[window])


def predict_logits(
    predict: Predict, image: Tensor, spec: EvalConfig, image_scale: float, device: torch.device
) -> Tensor:
    """Compute class logits of whole images under a protocol; see `predict_classes`.

    Returns:
        (B, K, H, W) float32 on the device, at the images' own size.
    """
    with torch.no_grad():
        return _predict_scales(predict, image.to(device).float() / 255, spec, image_scale)


def predict_classes(
    predict: Predict, image: Tensor, spec: EvalConfig, image_scale: float, device: torch.device
) -> Tensor:
    """Classes of whole images under a protocol.

    Args:
        predict: (B, 3, H, W) float in [0, 1] -> logits (B, K, H, W), for any H and W.
        image: (B, 3, H, W) uint8.
        spec: the protocol.
        image_scale: network pixels per image pixel.
        device: where to compute.

    Returns:
        (B, H, W) int64 on the device, at the images' own size.
    """
    # `max` is several times faster than `argmax` on the CPU.
    return predict_logits(predict, image, spec, image_scale, device).max(1).indices


def evaluate(
    predict: Predict,
    batches: Iterable[Images],
    spec: EvalConfig,
    *,
    image_scale: float,
    num_classes: int,
    device: torch.device,
    calibrate: bool = False,
) -> Evaluation:
    """Scores images; see `predict_classes` for the arguments. With `calibrate`, confidences are counted, too.

    Returns:
        One confusion matrix per image, of one prediction. Nothing is resized that is counted: masks keep their own
        pixels.
    """
    ids: list[str] = []
    counts = [np.zeros((0, num_classes, num_classes), np.int32)]
    sure: list[Calibration] = []
    for whole in batches:
        images = crop_center(whole, spec.protocol, image_scale) if isinstance(spec.protocol, CenterCrop) else whole
        logits, label = predict_logits(predict, images.image, spec, image_scale, device), images.label.to(device)
        best, where = logits.max(1)
        prediction = where.to(label.dtype)
        counts.append(count_confusion(prediction, label, num_classes).int().cpu().numpy())
        sure += [count_calibration(logits, best, prediction, label)] if calibrate else []
        ids += images.ids
    found = join(sure) if calibrate else None
    return merge([Evaluation(ids=ids, confusion=np.concatenate(counts), calibration=found)])


def merge(parts: list[Evaluation]) -> Evaluation:
    """Puts together what several processes found, sorted by id; an image that was counted twice counts once."""
    ids = [name for part in parts for name in part.ids]
    confusion = np.concatenate([part.confusion for part in parts])
    first = {name: i for i, name in reversed(list(enumerate(ids)))}
    names = sorted(first)
    rows = [first[name] for name in names]
    sure = [part.calibration for part in parts if part.calibration is not None]
    calibration = join(sure).take(rows) if sure else None
    return Evaluation(ids=names, confusion=confusion[rows], calibration=calibration)


def by_size(ids: Sequence[str], image: Tensor, label: Tensor, size: Tensor) -> Iterator[Images]:
    """Cuts images out of their canvas and groups those of equal size.

    Args:
        ids: names of the B images.
        image: (B, 3, h, w) uint8 on the canvas.
        label: (B, h, w) uint8.
        size: (B, 2) int64, height and width inside the canvas.
    """
    sizes = [(int(h), int(w)) for h, w in size]
    for height, width in sorted(set(sizes)):
        rows = [i for i, own in enumerate(sizes) if own == (height, width)]
        yield Images(
            ids=[ids[i] for i in rows], image=image[rows, :, :height, :width], label=label[rows, :height, :width]
        )
