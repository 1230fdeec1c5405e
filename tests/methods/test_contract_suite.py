"""The contract, asked of every method there is."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
import torch
from method_data import (
    CLASSES,
    LEARNERS,
    METHODS,
    ROOT,
    SIZE,
    drop_unlabelled,
    make,
    make_batch,
    optimiser_of,
    step,
    train,
    without_unlabelled_loss,
)

from rc2l_bench.methods.contract import Method, Teacher
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.types import IGNORE, Batch

each_method = pytest.mark.parametrize("name", METHODS)
each_learner = pytest.mark.parametrize("name", LEARNERS)


def network(method: Method) -> torch.nn.Module:
    """The student without what a method hangs onto it."""
    student = method.student
    return getattr(student, "net", student)


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@each_method
def test_losses_are_finite_scalars_with_the_same_names_at_every_step(name: str) -> None:
    method = make(name)
    batch = make_batch(method)
    found = [method(batch, progress) for progress in (0.0, 0.5, 0.999)] + [method(drop_unlabelled(batch), 0.5)]
    for losses in found:
        assert list(losses) == list(found[0])
        assert all(value.shape == () and value.isfinite() for value in losses.values())


@each_method
def test_every_trained_parameter_of_the_student_gets_a_gradient(name: str) -> None:
    method = make(name)
    train(method, 3, [make_batch(method)])  # residual branches start at zero, and a memory has to fill
    torch.stack(list(method(make_batch(method), 0.1).values())).sum().backward()
    silent = [n for n, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not silent


@each_method
def test_no_gradient_reaches_a_teacher(name: str) -> None:
    method = make(name)
    torch.stack(list(method(make_batch(method), 0.5).values())).sum().backward()
    teachers = [module for module in method.modules() if isinstance(module, Teacher)]
    parameters = [p for teacher in teachers for p in teacher.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in parameters)
    assert not any(module.training for teacher in teachers for module in teacher.net.modules())


@each_method
def test_pseudo_labels_are_those_of_the_teacher_where_there_is_one(name: str) -> None:
    method = make(name)
    batch = make_batch(method)
    train(method, 3, [batch])  # until teacher and student differ
    method.eval()
    teacher, second = getattr(method, "teacher", None), getattr(method, "second", None)
    source = second or (teacher and getattr(teacher.net, "net", teacher.net)) or method.deployed()
    with torch.no_grad():
        assert torch.equal(method.pseudo_logits(batch.image), source(batch.image))


@each_method
def test_parameter_groups_hold_every_trained_parameter_once(name: str) -> None:
    method = make(name)
    grouped = [id(p) for group, _ in method.param_groups() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in method.parameters() if p.requires_grad)


@each_method
def test_every_class_that_is_present_has_a_gradient(name: str) -> None:
    method = make(name)
    if not isinstance(network(method), PixelNet):
        pytest.skip("region networks classify queries, not pixels: tests/test_rc2l.py asks this of them")
    batch = make_batch(method)
    seen = []
    network(method).classifier.register_full_backward_hook(lambda _, __, out: seen.append(out[0]))
    method(batch, 0.5)["supervised"].backward()
    pushed = torch.cat(seen).sum((0, 2, 3))
    assert set(batch.label.unique().tolist()) == {*range(CLASSES), IGNORE}
    assert all(pushed[k].abs() > 0 for k in range(CLASSES))


@each_method
def test_labels_that_are_all_ignored_train_nothing_and_break_nothing(name: str) -> None:
    method = make(name)
    batch = make_batch(method)
    batch = replace(batch, label=torch.full_like(batch.label, IGNORE))
    losses = method(drop_unlabelled(batch), 0.5)
    assert losses["supervised"] == 0 or not isinstance(network(method), PixelNet)
    train(method, 2, [batch])
    assert all(value.isfinite().all() for value in method.state_dict().values())


@each_learner
def test_unlabelled_images_that_are_all_padding_break_nothing(name: str) -> None:
    method = make(name)
    batch = make_batch(method)
    batch = replace(batch, valid=torch.zeros_like(batch.valid))
    train(method, 2, [batch])
    assert all(value.isfinite().all() for value in method.state_dict().values())


@each_learner
def test_what_lies_outside_the_image_changes_no_loss(name: str) -> None:
    first, second = (make(name) for _ in range(2))
    # Convolutions look across the border of the image, so only the padding of an all-padding pair can be tried.
    batch = make_batch(first)
    valid = batch.valid.clone()
    valid[:2] = False
    other = batch.weak.clone()
    torch.manual_seed(0)  # of the feature dropout
    a = first.eval()(replace(batch, valid=valid), 0.5)
    other[:2] = 1 - other[:2]
    strong = batch.strong.clone()
    strong[:, :2] = 1 - strong[:, :2]
    torch.manual_seed(0)
    b = second.eval()(replace(batch, valid=valid, weak=other, strong=strong), 0.5)
    assert all(torch.allclose(a[key], b[key], atol=1e-5) for key in a)


@each_method
def test_a_method_says_whose_weights_are_scored(name: str) -> None:
    method = make(name)
    assert method.scored == getattr(method.config, "predict", "student")


@each_method
def test_a_batch_with_a_single_class_breaks_nothing(name: str) -> None:
    method = make(name)
    batch = make_batch(method)
    train(method, 2, [replace(batch, label=torch.full_like(batch.label, 3))])
    assert all(value.isfinite().all() for value in method.state_dict().values())


@each_learner
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("how", ["weight 0", "no unlabelled images"])
def test_without_unlabelled_loss_it_is_supervised_training_to_the_bit(name: str, optimiser: str, how: str) -> None:
    off = without_unlabelled_loss(name) if how == "weight 0" else {}
    method = make(name, off, net__pixel__dropout=0.2 if how == "weight 0" else 0.0)
    pixel = isinstance(network(method), PixelNet)
    rival = make(
        "baselines/supervised" if pixel else "baselines/supervised_region",
        net__pixel__dropout=0.2 if how == "weight 0" else 0.0,
    )
    batches = [make_batch(method, seed) for seed in range(3)]
    labelled = [drop_unlabelled(batch) for batch in batches]
    train(method, 3, batches if how == "weight 0" else labelled, optimiser)
    train(rival, 3, labelled, optimiser)
    assert equal(network(method).state_dict(), network(rival).state_dict())


@each_learner
def test_unlabelled_images_change_what_is_learnt(name: str) -> None:
    trained = []
    for seed in (1, 2):
        method = make(name, {"threshold": 0.0} if "threshold" in type(make(name).config).model_fields else {})
        batch, other = make_batch(method, 0), make_batch(method, seed)
        train(method, 3, [replace(other, image=batch.image, label=batch.label)])
        trained.append(network(method).state_dict())
    assert not equal(*trained)


@each_method
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    ends = []
    for _ in range(2):
        method = make(name, net__pixel__dropout=0.2)
        ends.append((train(method, 3, [make_batch(method, s) for s in range(3)]), method.state_dict()))
    assert ends[0][0] == ends[1][0]
    assert equal(ends[0][1], ends[1][1])


@each_method
def test_a_restored_run_continues_to_the_bit(name: str) -> None:
    whole, half = make(name), make(name)
    batches = [make_batch(whole, seed) for seed in range(4)]
    optimiser = optimiser_of(whole)
    losses = [step(whole, optimiser, batches[i], i, 4) for i in range(4)]
    optimiser = optimiser_of(half)
    for i in range(2):
        step(half, optimiser, batches[i], i, 4)
    restored = make(name, seed=9)
    restored.load_state_dict(half.state_dict())
    state = optimiser.state_dict()
    optimiser = optimiser_of(restored)
    optimiser.load_state_dict(state)
    assert [step(restored, optimiser, batches[i], i, 4) for i in (2, 3)] == losses[2:]
    assert equal(restored.state_dict(), whole.state_dict())


@each_method
def test_predictions_have_the_size_of_the_image_and_use_the_deployed_part_alone(name: str) -> None:
    method = make(name)
    train(method, 2, [make_batch(method)])
    method.eval()
    image = torch.rand(2, 3, SIZE, 2 * SIZE).to(next(method.parameters()).device)
    with torch.no_grad():
        logits = method.predict(image)
        other = make(name, seed=5).eval()
        other.deployed().load_state_dict(method.deployed().state_dict())
        again = other.predict(image)
    assert logits.shape == (2, CLASSES, SIZE, 2 * SIZE)
    assert logits.isfinite().all()
    assert torch.equal(logits, again)


@each_method
def test_training_lowers_the_supervised_loss(name: str) -> None:
    method = make(name)
    losses = train(method, 12, [make_batch(method)], "adamw")
    assert losses[-1]["supervised"] < 0.9 * losses[0]["supervised"]


@each_method
def test_bfloat16_gives_finite_losses(name: str) -> None:
    method = make(name)
    batch = make_batch(method)
    with torch.autocast(batch.image.device.type, torch.bfloat16):
        losses = method(batch, 0.5)
    torch.stack([value.float() for value in losses.values()]).sum().backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


@each_learner
def test_random_numbers_of_the_networks_do_not_depend_on_unlabelled_parts(name: str) -> None:
    rival = make("baselines/supervised" if isinstance(network(make(name)), PixelNet) else "baselines/supervised_region")
    assert equal(network(make(name)).state_dict(), network(rival).state_dict())


@each_method
def test_its_yaml_begins_with_where_the_numbers_come_from(name: str) -> None:
    head = [line for line in (ROOT / f"{name}.yaml").read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert head
    assert not (ROOT / f"{name}.yaml").read_text(encoding="utf-8").startswith("views")


def test_a_batch_has_no_place_for_labels_of_unlabelled_images() -> None:
    assert [field.name for field in dataclasses.fields(Batch)] == [
        *("image", "label"),
        *("weak", "strong", "box", "valid"),
    ]
