"""What each pixel-level method does that no other does."""

from __future__ import annotations

import torch
from method_data import make, make_batch

from baselines.fixmatch import FixMatch
from rc2l_bench.data.augment import paste
from rc2l_bench.types import IGNORE


def test_fixmatch_divides_by_all_valid_pixels() -> None:
    method = make("baselines/fixmatch").eval()
    batch = make_batch(method)
    probability, label = method.predict(batch.weak).softmax(1).max(1)
    threshold = float(probability.detach().median())
    method = make("baselines/fixmatch", {"threshold": threshold}).eval()
    assert isinstance(method, FixMatch)
    target = label.masked_fill((probability < threshold) | ~batch.valid, IGNORE)
    logits = method.student(paste(batch.strong[0], batch.box[0]))
    each = torch.nn.functional.cross_entropy(logits, paste(target, batch.box[0]), ignore_index=IGNORE, reduction="none")
    assert 0 < (target != IGNORE).sum() < batch.valid.sum()
    assert torch.allclose(method(batch, 0.5)["strong"], each.sum() / batch.valid.sum(), rtol=1e-4)


def test_fixmatch_labels_in_eval_mode_and_leaves_batch_norm_alone() -> None:
    method = make("baselines/fixmatch")
    assert isinstance(method, FixMatch)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.label(make_batch(method))
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert method.student.training
