"""What each pixel-level method does that no other does."""

from __future__ import annotations

import torch
from method_data import make, make_batch

from baselines.unimatch import UniMatch
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.pixel_losses import cross_entropy
from rc2l_bench.types import IGNORE


def test_unimatch_weighs_its_streams_as_published() -> None:
    method = make("baselines/unimatch", {"threshold": 0.0, "dropout": 0.0}).eval()
    assert isinstance(method, UniMatch)
    batch = make_batch(method)
    losses = method(batch, 0.5)
    label = method.student(batch.weak).argmax(1).masked_fill(~batch.valid, IGNORE)
    strong = [
        cross_entropy(method.student(paste(view, box)), paste(label, box))
        for view, box in zip(batch.strong, batch.box, strict=True)
    ]
    features = cross_entropy(method.student(batch.weak), label)
    supervised = cross_entropy(method.student(batch.image), batch.label)
    assert torch.allclose(losses["supervised"], supervised / 2, rtol=1e-4)
    assert torch.allclose(losses["strong"], (0.25 * strong[0] + 0.25 * strong[1]) / 2, rtol=1e-4)
    assert torch.allclose(losses["features"], 0.5 * features / 2, rtol=1e-4)


def test_unimatch_drops_features_of_the_perturbed_stream_only() -> None:
    ends = []
    for dropout in (0.0, 0.9):
        method = make("baselines/unimatch", {"dropout": dropout}).eval()
        assert isinstance(method, UniMatch)
        torch.manual_seed(0)
        ends.append(method.streams(make_batch(method)))
    same = [torch.equal(a, b) for a, b in zip(*ends, strict=True)]
    assert same == [True, True, True, True, False]
