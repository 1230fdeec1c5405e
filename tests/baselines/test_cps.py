"""What each pixel-level method does that no other does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from method_data import make, make_batch, make_config

from baselines.cps import CPS
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.pixel_losses import cross_entropy
from rc2l_bench.types import IGNORE

PLAIN = {"variant": "plain", "views.strong": 0}


def cps(changes: dict[str, Any] | None = None) -> CPS:
    method = make("baselines/cps", changes)
    assert isinstance(method, CPS)
    return method


# --- cps ---


def test_the_two_networks_of_cps_start_differently() -> None:
    method = cps()
    pairs = zip(method.student.parameters(), method.second.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_each_network_of_plain_cps_learns_the_labels_of_the_other() -> None:
    method = cps(PLAIN).eval()
    batch = make_batch(method)
    losses = method(batch, 0.5)
    images = torch.cat([batch.image, batch.weak])
    valid = torch.cat([batch.label != IGNORE, batch.valid])
    first, second = method.student(images), method.second(images)
    for name, logits, other in (("cross", first, second), ("cross_second", second, first)):
        label = other.argmax(1).masked_fill(~valid, IGNORE)
        assert torch.allclose(losses[name], cross_entropy(logits, label))


def test_cutmix_cps_mixes_labels_that_were_made_on_unmixed_images() -> None:
    method = cps({"weight": 2.0}).eval()
    batch = make_batch(method)
    losses = method(batch, 0.5)
    label = method.second(batch.weak).argmax(1).masked_fill(~batch.valid, IGNORE)
    logits = method.student(paste(batch.strong[0], batch.box[0]))
    assert torch.allclose(losses["cross"], 2 * cross_entropy(logits, paste(label, batch.box[0])), rtol=1e-4)


def test_the_ensemble_of_cps_is_the_mean_probability() -> None:
    method = cps({"ensemble": True}).eval()
    image = torch.rand(1, 3, 32, 32)
    expected = (method.student(image).softmax(1) + method.second(image).softmax(1)) / 2
    assert torch.allclose(method.predict(image).softmax(1), expected, atol=1e-6)


def test_without_ensemble_cps_predicts_with_the_first_network() -> None:
    method = cps().eval()
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(method.predict(image), method.student(image))


@pytest.mark.parametrize("changes", [{"variant": "plain"}, {"views.strong": 0}, {"weight": 0.0, "ensemble": True}])
def test_cps_refuses_settings_that_contradict_each_other(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs"):
        make_config("baselines/cps", changes)
