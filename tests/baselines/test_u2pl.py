"""What each pixel-level method does that no other does."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from method_data import CLASSES, change, make, make_batch, train
from torch import Tensor

from baselines.u2pl import U2PL, ContrastConfig, Pixels, View, assign, look_up, take_pixels
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.pixel_losses import cross_entropy
from rc2l_bench.methods.contract import load_config
from rc2l_bench.nets.lattice import PIXELS, Lattice
from rc2l_bench.types import IGNORE, Batch


def u2pl(changes: dict[str, Any] | None = None) -> U2PL:
    method = make("baselines/u2pl", changes)
    assert isinstance(method, U2PL)
    return method


# --- u2pl ---

LARGE = change(
    load_config("baselines/u2pl").model_dump(mode="json")["contrast"],
    {"dim": 4, "anchors": 8, "negatives": 3, "ranks": [3, 20], "bank": [40, 30]},
)


def three_classes(present: list[int], classes: int) -> View:
    """A view in which every fourth column belongs to one of some classes, and the teacher is sure of all labels."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.tensor(present)[torch.randint(0, len(present), (4, 8, 8), generator=generator)]
    logits = 6 * torch.nn.functional.one_hot(cells, classes).permute(0, 3, 1, 2).float()
    logits = logits + torch.rand(4, classes, 8, 8, generator=generator)
    return View(logits, torch.randn(4, 4, 8, 8, generator=generator), cells, torch.rand(2, 8, 8, generator=generator))


def classes_with_gradient(variant: str, present: list[int], classes: int = 21) -> set[int]:
    """The labels of the feature pixels that the contrastive loss pushes, with full memory banks."""
    torch.manual_seed(0)
    method = make("baselines/u2pl", {"variant": variant, "contrast": LARGE})
    assert isinstance(method, U2PL)
    bank = type(method.bank)([40] + [30] * (classes - 1), 4)
    vectors = torch.nn.functional.normalize(torch.randn(50, 4), dim=1)
    bank.add(vectors, torch.ones(classes, 50, dtype=torch.bool))
    method.bank = bank
    method.student.net.lattice = PIXELS  # features as large as labels
    view = three_classes(present, classes)
    features = torch.randn(4, 4, 8, 8, requires_grad=True)
    method.contrastive(features, view, 1.0).backward()
    assert features.grad is not None
    return set(view.label[features.grad.abs().sum(1) > 0].tolist())


@pytest.mark.parametrize("present", [[0, 1, 2], [0, 7, 14], [5, 9, 12], [20]])
def test_described_u2pl_pushes_every_class_that_is_present(present: list[int]) -> None:
    assert classes_with_gradient("described", present) == set(present)


@pytest.mark.parametrize(
    ("present", "pushed"), [([0, 1, 2], {0, 1, 2}), ([0, 7, 14], {0}), ([5, 9, 12], set()), ([1, 2, 9], {1, 2})]
)
def test_published_u2pl_pushes_only_classes_that_their_position_names(present: list[int], pushed: set[int]) -> None:
    assert classes_with_gradient("as_published", present) == pushed


def test_published_u2pl_with_one_class_has_no_loss() -> None:
    assert classes_with_gradient("as_published", [0]) == set()


def test_published_u2pl_looks_into_the_queue_of_the_class_at_its_position() -> None:
    present = torch.tensor([False, True, True, False, True])
    slot, queue = look_up(present, published=True)
    assert slot.tolist() == [True, True, True, False, False]
    assert queue[:3].tolist() == [1, 2, 4]
    slot, queue = look_up(present, published=False)
    assert slot.tolist() == present.tolist()
    assert queue.tolist() == [0, 1, 2, 3, 4]


def reference_parts(pixels: Pixels, config: ContrastConfig, published: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Members, anchors and negatives, pixel by pixel and class by class."""
    count, classes = pixels.logits.shape
    out = torch.zeros(3, classes, count, dtype=torch.bool)
    for p in range(count):
        probability = pixels.logits[p].softmax(0).tolist()
        order = sorted(range(classes), key=lambda k: -probability[k])
        label = int(pixels.label[p])
        for k in range(classes):
            own, rank = label == k, order.index(k)
            out[0, k, p] = own and (bool(pixels.truth[p]) or bool(pixels.low[p]))
            out[1, k, p] = bool(out[0, k, p]) and probability[k] > config.probability
            unsure = bool(pixels.high[p]) and config.ranks[0] <= rank < config.ranks[1]
            wrong = bool(pixels.truth[p]) and not own and rank < config.ranks[0]
            out[2, k, p] = (unsure and own) if published else (unsure or wrong)
    return out[0], out[1], out[2]


@pytest.mark.parametrize("published", [False, True])
def test_u2pl_gives_every_pixel_its_parts(published: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 6, (4, 8, 8), generator=generator)
    label[:, 0] = IGNORE
    view = View(
        torch.randn(4, 6, 16, 16, generator=generator),
        torch.randn(4, 4, 8, 8, generator=generator),
        label.repeat_interleave(2, 1).repeat_interleave(2, 2),
        torch.rand(2, 16, 16, generator=generator),
    )
    pixels = take_pixels(view, Lattice(2.0), 0.3)
    config = ContrastConfig.model_validate(LARGE | {"ranks": (2, 4), "bank": (4, 4)})
    parts = assign(pixels, config, published)
    assert all(torch.equal(*pair) for pair in zip(parts, reference_parts(pixels, config, published), strict=True))
    assert all(part.any() for part in parts)


def test_u2pl_finds_the_surest_and_the_most_unsure_pixels() -> None:
    view = three_classes([0, 1, 2], 5)
    pixels = take_pixels(view, PIXELS, 0.25)
    assert (int(pixels.low.sum()), int(pixels.high.sum()), int(pixels.truth.sum())) == (32, 33, 128)
    uncertain = torch.cat([torch.zeros(128), view.entropy.flatten()])
    rest = ~(pixels.low | pixels.high | pixels.truth)
    assert uncertain[pixels.low].max() < uncertain[rest].min()
    assert uncertain[pixels.high].min() > uncertain[rest].max()


def test_u2pl_as_published_never_takes_negatives_from_labelled_pixels() -> None:
    method = u2pl({"variant": "as_published"})
    batch = make_batch(method)
    train(method, 2, [replace(batch, valid=torch.zeros_like(batch.valid))])
    assert not method.bank.added.any()
    method = u2pl({"variant": "described"})
    train(method, 2, [replace(batch, valid=torch.zeros_like(batch.valid))])
    assert method.bank.added.any()


def test_u2pl_labels_all_pixels_in_the_end_and_a_share_at_the_start() -> None:
    method = u2pl({"unreliable": 0.5}).eval()
    batch = make_batch(method)
    box = batch.box[0]
    logits = paste(method.teacher.net(batch.weak)[0], box)
    valid = paste(batch.valid, box)
    label = logits.argmax(1).masked_fill(~valid, IGNORE)
    uncertain = torch.distributions.Categorical(logits=logits.movedim(1, 3)).entropy()
    student = method.student(paste(batch.strong[0], box))[0]
    end = cross_entropy(student, label)
    assert torch.allclose(method(batch, 1.0)["unsupervised"], end, rtol=1e-4)
    limit = uncertain[valid].sort().values[math.ceil(0.75 * int(valid.sum())) - 1]
    kept = label.masked_fill(uncertain > limit, IGNORE)
    half = valid.sum() / (kept != IGNORE).sum() * cross_entropy(student, kept)
    assert torch.allclose(method(batch, 0.5)["unsupervised"], half, rtol=1e-3)


def test_the_variant_of_u2pl_chooses_the_weight() -> None:
    weights = [u2pl({"variant": variant}).contrast_weight for variant in ("described", "as_published")]
    assert weights == [0.1, 1.0]


def test_a_class_that_is_in_no_bank_or_no_image_breaks_nothing() -> None:
    method = u2pl()
    batch = make_batch(method)

    def only(k: int) -> Batch:
        return replace(batch, label=torch.full_like(batch.label, k))

    train(method, 4, [only(0), only(CLASSES - 1)])
    assert all(value.isfinite().all() for value in method.state_dict().values())


def test_the_memory_banks_are_part_of_the_state() -> None:
    method = u2pl()
    train(method, 2, [make_batch(method)])
    other = u2pl()
    other.load_state_dict(method.state_dict())
    assert method.bank.added.sum() > 0
    assert torch.equal(other.bank.added, method.bank.added)
    assert torch.equal(other.bank.vectors, method.bank.vectors)
