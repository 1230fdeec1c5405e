"""What each pixel-level method does that no other does."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from method_data import CLASSES, change, drop_unlabelled, make, make_batch, make_config, train
from torch import Tensor

from baselines.cps import CPS
from baselines.fixmatch import FixMatch
from baselines.mean_teacher import MeanTeacher, ramp_up
from baselines.u2pl import U2PL, ContrastConfig, Pixels, View, assign, look_up, take_pixels
from baselines.unimatch import UniMatch
from baselines.unimatch_v2 import UniMatchV2, share_channels
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.pixel_losses import cross_entropy, squared_error
from rc2l_bench.methods.contract import load_config
from rc2l_bench.nets.lattice import PIXELS, Lattice
from rc2l_bench.types import IGNORE, Batch

PLAIN = {"variant": "plain", "views.strong": 0}


def cps(changes: dict[str, Any] | None = None) -> CPS:
    method = make("baselines/cps", changes)
    assert isinstance(method, CPS)
    return method


def u2pl(changes: dict[str, Any] | None = None) -> U2PL:
    method = make("baselines/u2pl", changes)
    assert isinstance(method, U2PL)
    return method


# --- warm-up ---

LATE = ["cps", "fixmatch", "u2pl", "unimatch", "unimatch_v2"]


@pytest.mark.parametrize("name", LATE)
def test_in_the_warm_up_a_batch_is_as_good_as_one_without_unlabelled_images(name: str) -> None:
    method, other = (make(f"baselines/{name}", {"warm_up": 0.5}) for _ in range(2))
    batch = make_batch(method)
    assert method(batch, 0.49) == other(drop_unlabelled(batch), 0.49)


@pytest.mark.parametrize("name", LATE)
def test_unlabelled_losses_begin_with_the_end_of_the_warm_up(name: str) -> None:
    method = make(f"baselines/{name}", {"warm_up": 0.5})
    losses = method(make_batch(method), 0.5)
    assert all(value > 0 for value in losses.values())


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


@pytest.mark.parametrize(
    ("method", "views"), [("fixmatch", 0), ("mean_teacher", 2), ("unimatch", 1), ("unimatch_v2", 1), ("u2pl", 0)]
)
def test_a_method_refuses_another_number_of_views(method: str, views: int) -> None:
    with pytest.raises(ValueError, match=r"views\.strong"):
        make_config(f"baselines/{method}", {"views.strong": views})


# --- fixmatch, mean teacher, unimatch ---


BELOW = [("fixmatch", ["strong"]), ("unimatch", ["strong", "features"]), ("unimatch_v2", ["strong"])]


@pytest.mark.parametrize(("method", "names"), BELOW)
def test_pseudo_labels_that_are_all_below_the_threshold_give_a_loss_of_zero(method: str, names: list[str]) -> None:
    made = make(f"baselines/{method}", {"threshold": 1.0})
    losses = made(make_batch(made), 0.5)
    assert all(losses[name] == 0 for name in names)
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in made.parameters() if p.grad is not None)


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


@pytest.mark.parametrize("method", ["mean_teacher", "u2pl", "unimatch_v2"])
def test_the_scored_network_is_the_one_the_config_names(method: str) -> None:
    image = torch.rand(1, 3, 32, 32)
    scores = []
    for who in ("student", "teacher"):
        made = make(f"baselines/{method}", {"predict": who})
        train(made, 3, [make_batch(made)])
        assert who in next(name for name, part in made.named_modules() if part is made.deployed())
        scores.append(made.eval().predict(image))
    assert not torch.equal(*scores)


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


# --- unimatch v2 ---


def test_unimatch_v2_learns_the_labels_of_the_teacher_and_divides_by_all_valid_pixels() -> None:
    first = make("baselines/unimatch_v2")
    batch = make_batch(first)
    threshold = float(first.eval().predict(batch.weak).softmax(1).amax(1).median())
    method = make("baselines/unimatch_v2", {"dropped": 0.0, "threshold": threshold}).eval()
    assert isinstance(method, UniMatchV2)
    for parameter in method.student.parameters():  # else the student would have the labels of the teacher
        parameter.data.mul_(1.3)
    losses = method(batch, 0.5)
    probability, label = method.teacher(batch.weak).softmax(1).max(1)
    label = label.masked_fill(~batch.valid | (probability < threshold), IGNORE)
    assert 0 < (label != IGNORE).sum() < batch.valid.sum()
    strong = torch.zeros(())
    for view, box in zip(batch.strong, batch.box, strict=True):
        logits, target = method.student(paste(view, box)), paste(label, box)
        each = torch.nn.functional.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        strong = strong + each.sum() / paste(batch.valid, box).sum()
    supervised = cross_entropy(method.student(batch.image), batch.label)
    assert torch.allclose(losses["supervised"], supervised / 2, rtol=1e-4)
    assert torch.allclose(losses["strong"], strong / 2 / 2, rtol=1e-4)


def test_the_views_of_an_image_share_its_channels() -> None:
    torch.manual_seed(0)
    maps = [torch.ones(8, 40, 6, 6), torch.ones(8, 24, 3, 3), torch.ones(8, 40, 2, 2)]
    fine, middle, coarse = (x[..., 0, 0] for x in share_channels(maps, 1.0))
    for found in (fine, middle, coarse):
        assert found[:4].unique().tolist() == [0.0, 2.0]
        assert torch.equal(found[:4] + found[4:], torch.full_like(found[:4], 2.0))
    assert torch.equal(fine, coarse)
    assert len(fine.unique(dim=0)) == 8


def test_a_mask_of_channels_holds_for_a_whole_map() -> None:
    x = torch.rand(4, 10, 5, 5)
    factor = share_channels([x], 1.0)[0] / x
    assert torch.equal(factor, factor[..., :1, :1].expand_as(x))


@pytest.mark.parametrize(("dropped", "count"), [(0.0, 0), (0.5, 5), (0.7, 7), (0.51, 6), (1.0, 10)])
def test_a_share_of_the_images_loses_channels_in_all_levels_of_both_views(dropped: float, count: int) -> None:
    maps = [torch.ones(20, 30, 1, 1), torch.ones(20, 50, 1, 1)]
    lost = [(x == 0).flatten(1).any(1).view(2, 10) for x in share_channels(maps, dropped)]
    assert all(int(views[0].sum()) == count for views in lost)
    assert all(torch.equal(views, lost[0][:1].expand(2, 10)) for views in lost)


def test_which_images_lose_channels_is_drawn() -> None:
    torch.manual_seed(0)
    lost = [(share_channels([torch.ones(20, 30, 1, 1)], 0.5)[0] == 0).flatten(1).any(1) for _ in range(4)]
    assert len({tuple(row.tolist()) for row in lost}) > 1


def test_unimatch_v2_drops_channels_of_strong_views_only() -> None:
    ends = []
    for dropped in (0.0, 1.0):
        method = make("baselines/unimatch_v2", {"dropped": dropped}).eval()
        assert isinstance(method, UniMatchV2)
        torch.manual_seed(0)
        ends.append(method.streams(make_batch(method)))
    same = [torch.equal(a, b) for a, b in zip(*ends, strict=True)]
    assert same == [True, False, False]


def test_on_a_plain_transformer_unimatch_v2_shares_the_same_channels_in_all_levels() -> None:
    method = make("baselines/unimatch_v2", {"dropped": 1.0}, net__backbone="test_vit", net__output_stride=32)
    assert isinstance(method, UniMatchV2)
    batch = make_batch(method)
    lost = [(x == 0).all(-1).all(-1) for x in share_channels(method.student.encode(batch.strong.flatten(0, 1)), 1.0)]
    assert len(lost) == 4
    assert all(torch.equal(each, lost[0]) for each in lost)
    assert torch.equal(lost[0][:4], ~lost[0][4:])
    torch.stack(list(method(batch, 0.5).values())).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in method.student.parameters())


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
