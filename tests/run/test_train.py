"""The loop, in one process. What happens to it when it is killed: see test_resume."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import tiny_data
import torch
from lightning_fabric import Fabric

from rc2l_bench.config import Runtime
from rc2l_bench.errors import BenchError, PreemptedError
from rc2l_bench.methods.contract import Method, MethodConfig, build, load_config
from rc2l_bench.metrics import areas_of, mean_iou
from rc2l_bench.run.evaluate import Evaluation
from rc2l_bench.run.hardware import open_fabric
from rc2l_bench.run.optimiser import learning_rate
from rc2l_bench.run.record import PARTS, Record
from rc2l_bench.run.store import Run
from rc2l_bench.run.train import Feed, Trainer
from rc2l_bench.types import Batch

METHODS = ("baselines/supervised", "baselines/mean_teacher")
STEPS = 7


class Stopped(Exception):  # noqa: N818 - not an error
    """Stands for a power cut."""


def runtime(**changes) -> Runtime:
    return Runtime.model_validate_json(json.dumps(tiny_data.RUNTIME | changes))


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    yield open_fabric(runtime())
    torch.use_deterministic_algorithms(False)


def batch_of(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    image = torch.rand(2, 3, 32, 32, generator=generator)
    label = (image.mean(1) > 0.5).long() + (image[:, 0] > 0.9).long()
    return Batch(
        image=image, label=label, weak=image.flip(0), strong=image.flip(-1)[None], box=torch.zeros(1, 2, 32, 32).bool(),
        valid=torch.ones(2, 32, 32).bool(),
    )  # fmt: skip


def score(method: Method) -> Evaluation:
    assert not torch.is_inference_mode_enabled()
    with torch.no_grad():
        method.eval()
        prediction = method.predict(batch_of(1000).image).argmax(1)
        method.train()
    counts = torch.stack([torch.bincount(3 * batch_of(1000).label[i].flatten() + prediction[i].flatten(), minlength=9)
                          for i in range(2)])  # fmt: skip
    return Evaluation(ids=["a", "b"], confusion=counts.view(2, 3, 3).int().numpy())


def feed(stop: int | None = None, seen: list[int] | None = None, augment=lambda step, _: batch_of(step)) -> Feed:
    def batches(start: int) -> Iterator[int]:
        yield from range(start, 10**6)

    def watch(record: Record) -> None:
        if seen is not None:
            seen.append(record.step)

    def evaluate(method: Method) -> Evaluation:
        return score(method)

    def augmented(step: int, number: int) -> Batch:
        assert step == number, "the loader and the loop count alike"
        if step == stop:
            raise Stopped
        return augment(step, number)

    return Feed(batches=batches, augment=augmented, evaluate=evaluate, watch=watch)


def trainer(fabric: Fabric, method: str = METHODS[0], run: Run | None = None, every: int = 1, **changes) -> Trainer:
    protocol = tiny_data.protocol(**{"steps": STEPS, **changes})
    torch.manual_seed(1)
    made = build(method, load_config(method), protocol, 3)
    found = Trainer(fabric, made, protocol, runtime(checkpoint_every=every, log_every=3), seed=5)
    state = run.load(torch.device("cpu")) if run else None
    if state is not None:
        found.restore(state)
    return found


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path, "f")
    run.folder.mkdir()
    return run


def timeless(record: Record) -> dict:
    return {name: value for name, value in vars(record).items() if "seconds" not in name}


def test_training_lowers_the_loss(fabric, run):
    tool = trainer(fabric, steps=25)
    tool.fit(feed(), run)
    assert tool.record.history[-1]["loss"] < 0.9 * tool.record.history[0]["loss"]


def test_the_learning_rates_in_the_optimiser_are_those_of_the_step(fabric, run):
    seen = []

    def augment(step: int, _: int) -> Batch:
        seen.append([group["lr"] for group in tool.optimiser.param_groups])
        return batch_of(step)

    tool = trainer(fabric)
    tool.fit(feed(augment=augment), run)
    for step in range(STEPS - 1):
        rate = learning_rate(tool.protocol.optimiser, step, STEPS)
        assert seen[step + 1] == [rate, 2 * rate]


def test_a_feed_sees_every_step_once_and_every_number_of_steps_done(fabric, run):
    seen: list[int] = []
    trainer(fabric).fit(feed(seen=seen), run)
    assert seen == list(range(1, STEPS + 1))


def test_the_history_has_scores_of_pseudo_labels_where_it_has_those_of_val(fabric, run):
    tool = trainer(fabric)
    tool.fit(replace(feed(), audit=lambda method: 0.25 + 0.5 * method.training), run)
    for row in tool.record.history:
        assert row["pseudo_miou"] == (None if row["miou"] is None else 0.75)


def test_the_seconds_of_a_training_are_without_those_of_scoring_pseudo_labels(fabric, run):
    tool = trainer(fabric)

    def audit(_: Method) -> float:
        time.sleep(0.5)
        return 0.0

    begin = time.perf_counter()
    tool.fit(replace(feed(), audit=audit), run)
    looks = len(tool.record.evaluations)
    assert tool.record.seconds <= time.perf_counter() - begin - 0.5 * looks
    assert looks > 1


def test_the_history_has_a_row_at_every_mark_and_evaluation(fabric, run):
    tool = trainer(fabric)
    last = tool.fit(feed(), run)
    assert [(row["step"], row["miou"] is None) for row in tool.record.history] == [
        (3, False),
        (5, False),
        (6, True),
        (7, False),
    ]
    assert list(tool.record.history[0]) == ["step", "lr", "loss", "supervised", "miou"]
    assert tool.record.history[-1]["miou"] == mean_iou(areas_of(last.confusion.sum(0)), "skip")
    assert [step for step, _ in tool.record.evaluations] == [3, 5, 7]


def test_a_row_is_the_mean_of_the_losses_since_the_last_one(fabric, run):
    losses = []

    class Counting(Method):
        """Its loss is what it is told."""

        def __init__(self) -> None:
            super().__init__(MethodConfig(views=tiny_data.views()), tiny_data.protocol(), 3)
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def losses(self, batch: Batch, progress: float) -> dict[str, torch.Tensor]:  # noqa: ARG002
            losses.append(progress)
            return {"a": self.weight * 0 + len(losses), "b": self.weight * 0 + 0.5}

        def deployed(self) -> torch.nn.Module:
            return torch.nn.Identity()

    tool = Trainer(fabric, Counting(), tiny_data.protocol(steps=STEPS), runtime(log_every=2), 0)
    tool.fit(feed(), run)
    rows = {row["step"]: (row["a"], row["b"], row["loss"]) for row in tool.record.history}
    assert rows == {2: (1.5, 0.5, 2.0), 3: (3.0, 0.5, 3.5), 4: (4.0, 0.5, 4.5), 5: (5.0, 0.5, 5.5),
                    6: (6.0, 0.5, 6.5), 7: (7.0, 0.5, 7.5)}  # fmt: skip
    assert losses == [step / STEPS for step in range(STEPS)]


@pytest.mark.parametrize("clip", [0.0, 1e6])
def test_a_loss_that_is_no_number_ends_the_training_in_one_line(fabric, run, clip):
    tool = trainer(fabric, optimiser={"lr": 1e6, "clip": clip, "name": "sgd", "weight_decay": 0.0})
    with pytest.raises(
        BenchError, match=r"^loss '(loss|supervised)' is (nan|inf) before step \d: lower the learning rate$"
    ):
        tool.fit(feed(), run)


def test_gradients_are_clipped_to_the_norm(fabric, run):
    def moved(clip: float) -> float:
        tool = trainer(fabric, steps=1, optimiser={"name": "sgd", "lr": 1.0, "clip": clip, "head_lr": 1.0,
                                                   "momentum": 0.0, "weight_decay": 0.0})  # fmt: skip
        before = torch.cat([p.detach().flatten().clone() for p in tool.method.parameters()])
        tool.fit(feed(), run)
        return float((torch.cat([p.detach().flatten() for p in tool.method.parameters()]) - before).norm())

    free = moved(0.0)
    assert moved(free / 10) == pytest.approx(free / 10, rel=1e-3)
    assert moved(free * 10) == pytest.approx(free, rel=1e-5)


@pytest.fixture
def saved(run, monkeypatch) -> list[int]:
    """The steps of the checkpoints that are written."""
    steps: list[int] = []
    save = run.save

    def note(step: int, state: dict) -> None:
        steps.append(step)
        save(step, state)

    monkeypatch.setattr(run, "save", note)
    return steps


@pytest.mark.parametrize(("every", "steps"), [(2, [2, 4, 6, 7]), (7, [7]), (100, [7])])
def test_checkpoints_come_as_often_as_asked_and_before_the_last_evaluation(fabric, run, saved, every, steps):
    trainer(fabric, run=run, every=every).fit(feed(), run)
    assert saved == steps


def test_checkpoints_come_by_minutes_too(fabric, run, saved, monkeypatch):
    """A step takes 40 seconds of this clock."""
    tool = trainer(fabric, every=100)
    tool.runtime = tool.runtime.model_copy(update={"checkpoint_minutes": 1.5})
    monkeypatch.setattr(time, "monotonic", lambda: 40.0 * tool.record.step)
    tool._saved_at = 0.0
    tool.fit(feed(), run)
    assert saved == [3, 6, 7]


def test_without_a_place_for_checkpoints_none_are_written(fabric):
    assert trainer(fabric).fit(feed(), None).ids == ["a", "b"]


def equal(one: Trainer, other: Trainer) -> bool:
    pairs = zip(one.method.state_dict().values(), other.method.state_dict().values(), strict=True)
    return timeless(one.record) == timeless(other.record) and all(torch.equal(a, b) for a, b in pairs)


def ask_at(tool: Trainer, step: int, when: str) -> Feed:
    """A feed during which a signal comes: in a step, or in the evaluation after it."""

    def ask() -> None:
        if tool.record.step == step:
            tool.preemption.handle(signal.SIGTERM, None)

    def augment(number: int, _: int) -> Batch:
        if when == "step":
            ask()
        return batch_of(number)

    def evaluate(method: Method) -> Evaluation:
        if when == "evaluation":
            ask()
        return score(method)

    return replace(feed(augment=augment), evaluate=evaluate)


@pytest.mark.parametrize(
    ("when", "at", "done"), [("step", 0, 1), ("step", 3, 4), ("step", 6, 7), ("evaluation", 3, 3), ("evaluation", 7, 7)]
)
def test_a_signal_costs_no_step_and_the_run_continues_to_the_bit(fabric, run, saved, tmp_path, when, at, done):
    straight = trainer(fabric, every=100)
    wanted = straight.fit(feed(), Run(tmp_path, "whole"))
    cut = trainer(fabric, every=100)
    with pytest.raises(PreemptedError, match=f"stopped after step {done} of 7; the same command continues") as caught:
        cut.fit(ask_at(cut, at, when), run)
    assert caught.value.exit_code == 75
    assert saved == [done]
    last = trainer(fabric, run=run, every=100)
    assert last.record.step == done
    assert np.array_equal(last.fit(feed(), run).confusion, wanted.confusion)
    assert equal(last, straight)


def test_signals_at_every_step_and_evaluation_end_the_same(fabric, run, tmp_path):
    straight = trainer(fabric, every=100)
    straight.fit(feed(), Run(tmp_path, "whole"))
    for step in range(8):
        for when in ("step", "evaluation"):
            tool = trainer(fabric, run=run, every=100)
            with contextlib.suppress(PreemptedError):
                tool.fit(ask_at(tool, step, when), run)
    last = trainer(fabric, run=run, every=100)
    last.fit(feed(), run)
    assert equal(last, straight)


def test_a_loader_that_died_of_the_same_signal_costs_no_step(fabric, run, saved):
    tool = trainer(fabric, every=100)

    def batches(start: int) -> Iterator[int]:
        yield from range(start, 3)
        tool.preemption.handle(signal.SIGTERM, None)
        raise BenchError("a loader process died")

    with pytest.raises(PreemptedError, match="after step 3 of 7"):
        tool.fit(replace(feed(), batches=batches), run)
    assert saved == [3]


def test_a_loader_that_died_by_itself_is_an_error(fabric, run, saved):
    def batches(_: int) -> Iterator[int]:
        raise BenchError("a loader process died")
        yield

    with pytest.raises(BenchError, match="a loader process died"):
        trainer(fabric).fit(replace(feed(), batches=batches), run)
    assert saved == []


@pytest.mark.parametrize("method", METHODS)
def test_a_run_cut_off_at_any_step_continues_to_the_bit(fabric, tmp_path, method):
    whole = Run(tmp_path, "whole")
    straight = trainer(fabric, method, every=100)
    wanted = straight.fit(feed(), whole)
    cut = Run(tmp_path, "cut")
    for stop in (1, 2, 4, 5, 6):
        with pytest.raises(Stopped):
            trainer(fabric, method, cut).fit(feed(stop=stop), cut)
    last = trainer(fabric, method, cut)
    assert last.record.step == 6
    found = last.fit(feed(), cut)
    assert np.array_equal(found.confusion, wanted.confusion)
    assert timeless(last.record) == timeless(straight.record)
    for (name, one), other in zip(straight.method.state_dict().items(), last.method.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_a_checkpoint_that_is_older_continues_to_the_bit_too(fabric, tmp_path):
    """Steps that were done after the last checkpoint are done again."""
    straight = trainer(fabric)
    straight.fit(feed(), Run(tmp_path, "whole"))
    cut = Run(tmp_path, "cut")
    with pytest.raises(Stopped):
        trainer(fabric, run=cut, every=3).fit(feed(stop=5), cut)
    last = trainer(fabric, run=cut, every=3)
    assert last.record.step == 3
    last.fit(feed(), cut)
    assert timeless(last.record) == timeless(straight.record)
    assert all(torch.equal(a, b) for a, b in zip(straight.method.parameters(), last.method.parameters(), strict=True))


def test_the_seed_of_the_cell_moves_the_dropout(fabric, tmp_path):
    def final(seed: int) -> torch.Tensor:
        tool = trainer(fabric)
        tool.seed = seed
        tool.fit(feed(), Run(tmp_path, str(seed)))
        return torch.cat([p.detach().flatten() for p in tool.method.parameters()])

    assert not torch.equal(final(1), final(2))


def test_time_is_counted_in_parts(fabric, run):
    tool = trainer(fabric)
    tool.fit(feed(), run)
    record = tool.record
    assert set(record.part_seconds) == set(PARTS)
    assert len(record.step_seconds) == STEPS
    assert sum(record.part_seconds.values()) <= sum(record.step_seconds) <= record.seconds
    assert 0 < record.other_seconds < record.seconds
    assert all(math.isfinite(value) and value > 0 for value in record.part_seconds.values())
