from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from method_data import drop_unlabelled, make, make_batch, optimiser_of, step, train, without_unlabelled_loss

from rc2l_bench.losses.matching import match_regions

RC2L = "rc2l_bench/methods/rc2l"
SUPERVISED = "baselines/supervised_region"
NAMES = ["rmc", "rfc", "rcc", "smc"]
ANYTHING = {"threshold": 0.0}
"""An untrained teacher is sure of nothing."""


def only(*names, weight=1.0):
    return ANYTHING | {f"weights.{name}": weight if name in names else 0.0 for name in NAMES}


@pytest.fixture(scope="module")
def learned():
    """Weights of a region network that tells the classes apart."""
    method = make(SUPERVISED)
    train(method, 60, [make_batch(method, seed) for seed in range(6)], "adamw")
    return method.student.state_dict()


@pytest.fixture
def make_learned(learned):
    """Makes a method whose student and teacher have learned something."""

    def make_it(changes):
        method = make(RC2L, changes)
        method.student.load_state_dict(learned)
        method.teacher.net.load_state_dict(learned)
        return method

    return make_it


def total(losses):
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("predict", ["student", "teacher"])
def test_with_all_weights_at_zero_it_is_the_supervised_region_baseline_to_the_bit(predict):
    ours, theirs = make(RC2L, without_unlabelled_loss(RC2L) | {"predict": predict}), make(SUPERVISED)
    batches = [make_batch(ours, seed) for seed in range(3)]
    mine, supervised = train(ours, 3, batches), train(theirs, 3, [drop_unlabelled(batch) for batch in batches])
    assert [row["supervised"] for row in mine] == [row["supervised"] for row in supervised]
    assert all(row[name] == 0 for row in mine for name in NAMES)
    for (name, a), b in zip(ours.student.state_dict().items(), theirs.student.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_in_the_warm_up_unlabelled_images_are_not_looked_at():
    method, other = (make(RC2L, ANYTHING | {"warm_up": 0.5}) for _ in range(2))
    batch = make_batch(method)
    method.teacher.net.segment = None
    assert torch.equal(total(method(batch, 0.49)), total(other(drop_unlabelled(batch), 0.49)))
    with pytest.raises(TypeError):
        method(batch, 0.51)


def test_the_weight_rises_linearly_after_the_warm_up():
    method = make(RC2L, {"warm_up": 0.4, "ramp": 0.2})
    assert [method.ramp(p) for p in (0.0, 0.39, 0.4)] == [0, 0, 0]
    assert method.ramp(0.5) == pytest.approx(0.5)
    assert method.ramp(0.61) == method.ramp(0.99) == 1
    assert make(RC2L, {"warm_up": 0.4, "ramp": 0.0}).ramp(0.4) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_multiplies_its_loss_and_no_other(make_learned, name):
    batch = make_batch(make(RC2L))
    one, three = (make_learned(only(name, weight=w))(batch, 0.5) for w in (1.0, 3.0))
    assert one[name] > 0
    torch.testing.assert_close(three[name], 3 * one[name])
    assert all(one[other] == 0 for other in NAMES if other != name)
    assert one["supervised"] == three["supervised"]


@pytest.mark.parametrize("form", ["class", "query"])
def test_the_four_losses_reach_every_part_of_the_student_and_nothing_of_the_teacher(make_learned, form):
    method = make_learned(ANYTHING | {"regions": form})
    losses = method(make_batch(method, 1), 0.5)
    total({name: losses[name] for name in NAMES}).backward()
    silent = [n for n, p in method.student.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    assert all(p.grad is None for p in method.teacher.parameters())


@pytest.mark.parametrize(
    ("name", "part"), [("rcc", "classify"), ("rmc", "embed"), ("rfc", "pixels"), ("smc", "backbone")]
)
def test_each_loss_reaches_the_part_it_speaks_of(make_learned, name, part):
    method = make_learned(only(name))
    method(make_batch(method, 1), 0.5)[name].backward()
    assert any(p.grad is not None and p.grad.any() for p in getattr(method.student, part).parameters())


def test_what_lies_outside_the_images_changes_no_unlabelled_loss(make_learned):
    method = make_learned(ANYTHING)
    batch = make_batch(method, 1)
    target = method.target(batch)
    outside = ~target.regions.valid[:, None]
    assert outside.any()
    seen = method.student.segment(batch.strong.flatten(0, 1))
    moved = replace(seen, features=seen.features + 5 * outside)
    matches = [match_regions(x, target.regions, method.config.set_loss, [-1])[:, 0] for x in (seen, moved)]
    assert torch.equal(*matches)
    for name in NAMES:
        assert method.terms(seen, target, matches[0])[name]() == method.terms(moved, target, matches[0])[name]()


def test_a_teacher_that_is_sure_of_nothing_teaches_nothing():
    method = make(RC2L, {"threshold": 1.0})
    losses = method(make_batch(method), 0.5)
    assert all(losses[name] == 0 for name in NAMES)
    total({name: losses[name] for name in NAMES}).backward()
    assert not any(p.grad is not None and p.grad.any() for p in method.student.parameters())


def test_the_batch_without_unlabelled_images_is_supervised():
    method = make(RC2L, ANYTHING)
    batch = drop_unlabelled(make_batch(method))
    assert method(batch, 0.5)["supervised"] == make(SUPERVISED)(batch, 0.5)["supervised"]


@pytest.mark.parametrize(
    "changes",
    [
        {"regions": "query"},
        {"scope": "image", "positives": "class"},
        {"targets": "hard", "smc": "bce"},
        {"smc": "mse", "no_object": 0.0},
        {"views.strong": 2},
        {"buffers": "copy", "predict": "teacher"},
        {"set_loss.ignored": "background"},
    ],
)
def test_every_choice_trains(make_learned, changes):
    method = make_learned(ANYTHING | changes)
    rows = train(method, 6, [make_batch(method, 9)], "adamw")
    assert rows[-1]["supervised"] < rows[0]["supervised"]
    assert all(0 < row[name] < 100 for row in rows for name in NAMES)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["class", "query"])
def test_mixed_precision_gives_finite_losses_on_extreme_logits(dtype, form):
    method = make(RC2L, ANYTHING | {"regions": form})
    with torch.no_grad():
        for net in (method.student, method.teacher.net):
            net.classify.weight *= 1e4
            net.embed[-1].weight *= 1e4
    with torch.autocast("cpu", dtype):
        losses = method(make_batch(method), 0.5)
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())


def test_a_restored_method_continues_to_the_bit():
    method = make(RC2L, ANYTHING)
    batch = make_batch(method)
    train(method, 2, [batch])
    other = make(RC2L, ANYTHING, seed=1)
    other.load_state_dict(method.state_dict())
    rows = [step(m, optimiser_of(m), batch, 2, 4) for m in (method, other)]
    assert rows[0] == rows[1]
    assert all(
        torch.equal(a, b) for a, b in zip(method.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_prediction_and_deployment_are_of_the_same_network():
    for predict in ("student", "teacher"):
        method = make(RC2L, {"predict": predict}).eval()
        net = method.student if predict == "student" else method.teacher.net
        image = torch.rand(1, 3, 32, 32)
        assert method.deployed() is net
        assert torch.equal(method.predict(image), net(image))
