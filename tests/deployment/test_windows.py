"""WindowedNetwork from top to bottom see what the evaluation of the benchmark sees."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_data
import torch
from torch import Tensor, nn

from rc2l_bench.config import Sliding
from rc2l_bench.deployment.photo_files import ArrayRows
from rc2l_bench.deployment.windows import Band, WindowedNetwork, decide
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.run.evaluate import predict_logits

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return PixelNet(tiny_data.protocol().net, 3).eval()


def rule(window=(32, 32), stride=0.5, combine="softmax") -> Sliding:
    return Sliding(mode="sliding", window=window, stride=stride, combine=combine)


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


class Reading(ArrayRows):
    """A picture that takes note of what is read of it."""

    def read(self, start: int, stop: int) -> np.ndarray:
        seen.append((start, stop))
        return super().read(start, stop)


seen: list[tuple[int, int]] = []


def slide(network, spec: Sliding, pixels: np.ndarray, most: int = 1, image_scale: float = 1.0) -> Band:
    evaluation = tiny_data.protocol().eval
    seen.clear()
    bands = list(WindowedNetwork(network, spec, evaluation, image_scale, CPU).slide(Reading(pixels), most))
    return Band(*(np.concatenate(parts) for parts in zip(*bands, strict=True)))


@pytest.mark.parametrize("combine", ["softmax", "logits", "sum"])
@pytest.mark.parametrize("size", [(32, 32), (96, 64), (75, 131), (33, 200)])
@pytest.mark.parametrize("stride", [0.5, 2 / 3, 1.0])
def test_the_classes_are_those_of_the_evaluation(network, combine, size, stride):
    spec, pixels = rule(stride=stride, combine=combine), photo(*size)
    found = slide(network, spec, pixels)
    protocol = tiny_data.protocol(eval={"protocol": spec.model_dump(mode="json")})
    whole = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    scores = predict_logits(network, whole, protocol.eval, 1.0, CPU)[0]
    two = scores.softmax(0).topk(2, 0).values
    sure = (two[0] - two[1] > 1e-5).numpy()
    assert sure.mean() > 0.99
    assert (found.classes == scores.argmax(0).numpy())[sure].all()
    assert (found.pixels == pixels).all()


def test_the_confidence_is_the_mean_probability_of_the_windows(network):
    """By hand: two windows over 48 columns, which share the middle 16."""
    pixels = photo(32, 48)
    left, right = (
        network(torch.from_numpy(part.copy()).permute(2, 0, 1)[None].float() / 255).softmax(1)[0].detach()
        for part in (pixels[:, :32], pixels[:, 16:])
    )
    wanted = torch.cat([left[..., :16], (left[..., 16:] + right[..., :16]) / 2, right[..., 16:]], -1)
    found = slide(network, rule(), pixels)
    assert found.confidence == pytest.approx(wanted.max(0).values.numpy(), abs=1e-5)


@pytest.mark.parametrize("most", [1, 5000, 10**9])
def test_how_many_windows_are_seen_together_changes_nothing(network, most):
    pixels = photo(75, 131)
    one, some = slide(network, rule(), pixels), slide(network, rule(), pixels, most)
    assert some.confidence == pytest.approx(one.confidence, abs=1e-5)


def test_a_row_of_windows_is_read_at_a_time_from_top_to_bottom(network):
    slide(network, rule(), photo(100, 40))
    assert seen == [(0, 32), (16, 48), (32, 64), (48, 80), (64, 96), (68, 100)]


def test_a_picture_smaller_than_a_window_is_seen_at_once(network):
    found = slide(network, rule(window=(64, 64)), photo(32, 32))
    assert seen == [(0, 32)]
    assert found.classes.shape == (32, 32)


class Sizes(nn.Module):
    """Two classes; what is bright is the second one. Notes the sizes that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: set[tuple[int, ...]] = set()

    def forward(self, image: Tensor) -> Tensor:
        self.shown.add(tuple(image.shape[-2:]))
        return torch.stack([torch.full_like(image[:, 0], 0.5), image[:, 0]], 1) * 9


def test_windows_are_as_large_for_the_network_as_the_rule_says():
    """Half as many network pixels as image pixels: a window of 32 sees 64."""
    network, pixels = Sizes(), np.zeros((128, 160, 3), np.uint8)
    pixels[:, 70:] = 255
    found = slide(network, rule(), pixels, image_scale=0.5)
    assert network.shown == {(32, 32)}
    assert seen[0] == (0, 64)
    assert (found.classes[:, :68] == 0).all()
    assert (found.classes[:, 72:] == 1).all()


def test_a_decision_is_the_most_probable_class():
    found = decide(photo(1, 2), torch.tensor([[[0.2, 0.5]], [[0.7, 0.1]], [[0.1, 0.4]]]))
    assert found.classes.tolist() == [[1, 0]]
    assert found.confidence.tolist() == [[pytest.approx(0.7), 0.5]]
