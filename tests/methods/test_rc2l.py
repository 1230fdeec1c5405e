from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from method_data import (
    drop_unlabelled,
    make,
    make_batch,
    make_config,
    make_learned,
    optimiser_of,
    step,
    train,
    without_unlabelled_loss,
)

from rc2l_bench.data.augment import paste
from rc2l_bench.losses.matching import Matching
from rc2l_bench.methods.contract import load_config

RC2L = "rc2l_bench/methods/rc2l"
SUPERVISED = "baselines/supervised_region"
NAMES = ["rcc", "smc", "rmc", "rfc", "mask"]
ANYTHING = {"threshold": 0.0, "weights.mask": 1.0}
"""An untrained teacher is sure of nothing."""


def only(*names, weight=1.0):
    return ANYTHING | {f"weights.{name}": weight if name in names else 0.0 for name in NAMES}


def total(losses):
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("off", [without_unlabelled_loss(RC2L), {f"weights.{name}": 0.0 for name in NAMES}])
@pytest.mark.parametrize("more", [{"predict": "teacher"}, {"teacher_view": "same"}])
def test_with_alpha_or_all_weights_at_zero_it_is_the_supervised_region_baseline_to_the_bit(off, more):
    ours, theirs = make(RC2L, off | more), make(SUPERVISED)
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


def test_alpha_rises_linearly_after_the_warm_up():
    method = make(RC2L, {"warm_up": 0.4, "ramp": 0.2})
    assert [method.ramp(p) for p in (0.0, 0.39, 0.4)] == [0, 0, 0]
    assert method.ramp(0.5) == pytest.approx(0.5)
    assert method.ramp(0.61) == method.ramp(0.99) == 1
    assert make(RC2L, {"warm_up": 0.4, "ramp": 0.0}).ramp(0.4) == 1


@pytest.mark.parametrize("name", NAMES)
def test_alpha_and_a_weight_multiply_a_loss_and_no_other(name):
    batch = make_batch(make(RC2L))
    one = make_learned(RC2L, only(name) | {"alpha": 1.0})(batch, 0.5)
    six = make_learned(RC2L, only(name, weight=3.0) | {"alpha": 2.0})(batch, 0.5)
    assert one[name] != 0
    torch.testing.assert_close(six[name], 6 * one[name])
    assert all(one[other] == 0 for other in NAMES if other != name)
    assert one["supervised"] == six["supervised"]


@pytest.mark.parametrize("form", ["class", "query"])
def test_the_losses_reach_every_part_of_the_student_and_nothing_of_the_teacher(form):
    method = make_learned(RC2L, ANYTHING | {"regions": form})
    losses = method(make_batch(method, 1), 0.5)
    total({name: losses[name] for name in NAMES}).backward()
    silent = [n for n, p in method.student.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    assert all(p.grad is None for p in method.teacher.parameters())


@pytest.mark.parametrize(
    ("name", "part"), [("rcc", "classify"), ("rmc", "embed"), ("rfc", "pixels"), ("smc", "backbone"), ("mask", "embed")]
)
def test_each_loss_reaches_the_part_it_speaks_of(name, part):
    method = make_learned(RC2L, only(name))
    method(make_batch(method, 1), 0.5)[name].backward()
    assert any(p.grad is not None and p.grad.any() for p in getattr(method.student, part).parameters())


def views(changes):
    """What teacher and student see, and the batch that it was made of."""
    method = make(RC2L, changes)
    batch = make_batch(method)
    return *method.views(batch), batch


def test_the_teacher_sees_the_weak_view_without_colours():
    weak, strong, box, batch = views({"teacher_view": "weak"})
    assert torch.equal(weak, batch.weak)
    assert torch.equal(strong, paste(batch.strong[0], batch.box[0]))
    assert torch.equal(box, batch.box)


def test_the_teacher_sees_the_colours_of_the_strong_view_before_it_is_mixed():
    weak, strong, box, batch = views({"teacher_view": "same"})
    assert torch.equal(weak, batch.strong[0])
    assert not torch.equal(weak, batch.weak)
    assert torch.equal(strong, paste(weak, box[0]))


def test_the_teacher_sees_colours_that_the_student_does_not_see():
    weak, strong, box, batch = views({"teacher_view": "other", "views.strong": 2})
    assert torch.equal(weak, batch.strong[0])
    assert torch.equal(strong, paste(batch.strong[1], batch.box[1]))
    assert torch.equal(box, batch.box[1:])


@pytest.mark.parametrize("changes", [{"teacher_view": "other"}, {"views.strong": 0}])
def test_too_few_views_are_refused(changes):
    with pytest.raises(ValueError, match=r"views\.strong"):
        make_config(RC2L, changes)


def test_what_lies_outside_the_images_changes_no_unlabelled_loss():
    method = make_learned(RC2L, ANYTHING)
    batch = make_batch(method, 1)
    weak, strong, box = method.views(batch)
    with torch.no_grad():
        regions = method.segments(weak, batch.valid, box)
    outside = ~regions.valid[:, None]
    assert outside.any()
    seen = method.student.segment(strong)
    moved = replace(seen, features=seen.features + 5 * outside)
    before, after = (
        method.terms(x, x.mask(), Matching((regions, method.costs(x, regions))).solve(0)) for x in (seen, moved)
    )
    assert all(before[name]() == after[name]() for name in NAMES)


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
        {"regions": "query", "over_regions": "mean"},
        {"overlap": "union", "union": "any"},
        {"union": "sum", "over_regions": "mean"},
        {"union": "semantic"},
        {"views.strong": 2},
        {"views.strong": 2, "teacher_view": "other"},
        {"teacher_view": "same"},
        {"buffers": "copy", "predict": "teacher"},
        {"set_loss.ignored": "background"},
    ],
)
def test_every_choice_trains(changes):
    method = make_learned(RC2L, ANYTHING | changes)
    rows = train(method, 15, [make_batch(method, 9)], "adamw")
    assert sum(rows[-1].values()) < sum(rows[0].values())
    assert all(0 < abs(row[name]) < 100 for row in rows for name in NAMES)


def test_the_literal_variant_has_what_the_paper_prints_and_nothing_of_ours():
    config = load_config(f"{RC2L}@literal").model_dump()
    assert (config["alpha"], config["threshold"], config["warm_up"], config["ramp"]) == (1.0, 0.0, 0.0, 0.0)
    assert config["weights"] == {"rcc": 1.0, "smc": 20.0, "rmc": 4.0, "rfc": 4.0, "mask": 0.0}
    assert (config["mask_temperature"], config["feature_temperature"]) == (1.0, 0.5)
    assert config["mask_loss"] == {"focal": 20.0, "dice": 1.0}
    assert (config["over_regions"], config["teacher_view"]) == ("sum", "same")


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
