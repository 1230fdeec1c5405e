"""The one loop. It knows no method and no data set."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from rc2l_bench.config import Protocol, Runtime
from rc2l_bench.draws import derive
from rc2l_bench.errors import BenchError, DivergedError, PreemptedError
from rc2l_bench.methods.contract import Method
from rc2l_bench.metrics import areas_of, mean_iou
from rc2l_bench.processes import synchronise
from rc2l_bench.run.clock import STEP, Clock
from rc2l_bench.run.evaluate import Evaluation
from rc2l_bench.run.levers import check_levers, pull_levers, uncompiled
from rc2l_bench.run.optimiser import build_optimiser, evaluation_steps, learning_rate
from rc2l_bench.run.passes import Objective, Passes
from rc2l_bench.run.record import Record, Row
from rc2l_bench.run.signals import Preemption
from rc2l_bench.run.store import Run
from rc2l_bench.types import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """Where batches come from and what is done with the network now and then.

    Attributes:
        batches: loaded batches from a step on, endless or long enough.
        augment: makes a `Batch` of a loaded batch and its step.
        evaluate: scores the method on the validation part.
        watch: told of every finished step.
        audit: computes the mIoU of the method's pseudo-labels; None = nothing to score them on.
    """

    batches: Callable[[int], Iterator[Any]]
    augment: Callable[[Any, int], Batch]
    evaluate: Callable[[Method], Evaluation]
    watch: Callable[[Record], None]
    audit: Callable[[Method], float] | None = None


class Trainer:
    """Trains one method under one protocol, from wherever the run stands to its end."""

    def __init__(
        self,
        fabric: Fabric,
        method: Method,
        protocol: Protocol,
        runtime: Runtime,
        seed: int,
        preemption: Preemption | None = None,
    ) -> None:
        """Set up networks and optimiser.

        Args:
            fabric: device, precision, processes.
            method: freshly initialised.
            protocol: budget, optimiser, evaluations.
            runtime: how often to log and to write checkpoints.
            seed: of the cell; dropout and the like draw from (seed, step).
            preemption: tells that this process was asked to stop; None = nobody asks.

        Raises:
            UsageError: the levers of the runtime do not fit the method, the batch or the backbone.
        """
        self.fabric = fabric
        check_levers(method, protocol, runtime.levers)
        if fabric.world_size > 1:
            synchronise(method)
        pull_levers(method, runtime.levers)
        # Channels last is the faster layout for convolutions, on the CPU as on CUDA.
        self.method = method.to(memory_format=torch.channels_last)
        self.protocol = protocol
        self.runtime = runtime
        self.seed = seed
        self.optimiser = build_optimiser(method, protocol.optimiser)
        self.model, self.stepper = fabric.setup(Objective(method), self.optimiser)
        self.clock = Clock(fabric.device)
        self.passes = Passes(fabric, self.model, method, runtime.levers, self.clock)
        self.evaluate_after = evaluation_steps(protocol.steps, protocol.eval.evaluations)
        self.record = Record()
        self.preemption = preemption or Preemption()
        self._saved, self._saved_at = (0, 0), time.monotonic()

    def state(self) -> dict[str, Any]:
        """Collect all that a checkpoint holds. Several processes have to do so together."""
        record = dict(vars(self.record))
        if self.fabric.world_size > 1:  # only the sums are different in each of them
            parts: list[Any] = [None] * self.fabric.world_size
            torch.distributed.all_gather_object(parts, {name: sum_.cpu() for name, sum_ in self.record.sums.items()})
            record["sums"] = {name: torch.stack([part[name] for part in parts]) for name in self.record.sums}
        return {
            "method": self.method.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "record": record,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.method.load_state_dict(state["method"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.record = Record(**state["record"])
        if self.fabric.world_size > 1:
            self.record.sums = {name: values[self.fabric.global_rank] for name, values in self.record.sums.items()}
        self._saved = self.record.step, self.record.looked

    def _step(self, batches: Iterator[Any], feed: Feed) -> None:
        """One training step."""
        step, steps = self.record.step, self.protocol.steps
        with self.clock.time("data"):
            loaded = next(batches)
        with self.clock.time("augment"):
            batch = feed.augment(loaded, step)
        torch.manual_seed(derive(self.seed, f"network/{self.fabric.global_rank}", step))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.protocol.optimiser, step, steps) * group["lr_scale"]
        losses = self.passes.carry_out(batch, step / steps)
        with self.clock.time("optimise"):
            if self.protocol.optimiser.clip > 0:
                # What is not finite shows in the losses, or is what a scaler of mixed precision is looking for.
                clip = self.protocol.optimiser.clip
                self.fabric.clip_gradients(self.model, self.stepper, max_norm=clip, error_if_nonfinite=False)
            self.stepper.step()
            self.stepper.zero_grad()
            self.method.after_step()
        self._note(losses)

    def _note(self, losses: dict[str, Tensor]) -> None:
        for name, value in losses.items():
            self.record.sums[name] = self.record.sums.get(name, 0) + value.float()
        self.record.step += 1

    def _log(self, scores: Row) -> None:
        """Adds a row to the history: means since the last one, and scores."""
        count = self.record.step - (int(self.record.history[-1]["step"] or 0) if self.record.history else 0)
        sums: Any = self.fabric.all_reduce(torch.stack(list(self.record.sums.values())), reduce_op="mean")
        means = {name: total / count for name, total in zip(self.record.sums, sums.tolist(), strict=True)}
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        if bad:
            text = f"loss '{bad[0]}' is {means[bad[0]]} before step {self.record.step}: lower the learning rate"
            raise DivergedError(text, self.record.seconds)
        rate = learning_rate(self.protocol.optimiser, self.record.step - 1, self.protocol.steps)
        row: Row = {"step": self.record.step, "lr": rate, "loss": means.pop("loss"), **means, **scores}
        self.record.history.append(row)
        self.record.sums = {}

    def settle(self) -> None:
        """Wait for the device, and note what the steps until now have taken."""
        begin = time.perf_counter()
        self.clock.read(self.record, wait=True)
        self.record.seconds += time.perf_counter() - begin

    def _look(self, feed: Feed) -> Evaluation | None:
        """Evaluation and log, where due after this step.

        A signal may interrupt the evaluation, which is long and changes nothing; the next session makes up for it.
        """
        record, evaluation = self.record, None
        due = record.step in self.evaluate_after
        # Steps that the device has still to do are theirs, not the evaluation's or the log's.
        if due or record.step % self.runtime.log_every == 0:
            self.settle()
        begin = time.perf_counter()
        try:
            if due:
                self._share_buffers()
                with uncompiled(self.runtime.levers):
                    evaluation = feed.evaluate(self.method)
        finally:  # an evaluation that a signal cuts off has taken its time, too
            record.seconds += time.perf_counter() - begin
        audited = self._audit(feed, due)
        with self.preemption.protected():
            self._note_look(feed, evaluation, audited)
        return evaluation

    def _audit(self, feed: Feed, due: bool) -> Row:
        """Scores pseudo-labels, if there are any. Its seconds are nobody's: without it the training is the same."""
        if feed.audit is None:
            return {}
        with uncompiled(self.runtime.levers):
            return {"pseudo_miou": feed.audit(self.method) if due else None}

    def _note_look(self, feed: Feed, evaluation: Evaluation | None, audited: Row) -> None:
        """Adds an evaluation to the record, and a row to the history where one is due."""
        record, miou = self.record, None
        begin = time.perf_counter()
        if evaluation is not None:
            miou = float(mean_iou(areas_of(evaluation.confusion.sum(0, dtype="int64")), self.protocol.eval.absent))
            record.evaluations.append((record.step, miou))
        if record.step % self.runtime.log_every == 0 or evaluation is not None:
            self._log({"miou": miou} | audited)
        feed.watch(record)
        record.looked = record.step
        spent = time.perf_counter() - begin
        record.other_seconds += spent
        record.seconds += spent

    def _share_buffers(self) -> None:
        """Gives all processes the batch-norm statistics of the first one, so that they score the same network."""
        if self.fabric.world_size > 1:
            for buffer in self.method.buffers():
                torch.distributed.broadcast(buffer, 0)

    def _save(self, run: Run | None) -> None:
        """Write a checkpoint, unless this very state is in one."""
        place = self.record.step, self.record.looked
        if run is None or place == self._saved:
            return
        self.settle()
        begin = time.perf_counter()
        state = self.state()
        if self.fabric.is_global_zero:
            run.save(self.record.step, state)
        self.fabric.barrier()
        self._saved, self._saved_at = place, time.monotonic()
        spent = time.perf_counter() - begin
        self.record.other_seconds += spent
        self.record.seconds += spent

    def _is_due(self) -> bool:
        """Whether a checkpoint is due: by steps, by minutes, or because this was the last step.

        Raises:
            PreemptedError: several processes have agreed to stop here.
        """
        minutes = self.runtime.checkpoint_minutes
        flags = [self.preemption.asked, 0 < 60 * minutes <= time.monotonic() - self._saved_at]
        if self.fabric.world_size > 1:
            # Clocks differ and signals do not reach all at once, but all have to stop or save after the same step.
            mine = torch.tensor(flags, dtype=torch.float32, device=self.fabric.device)
            every: Any = self.fabric.all_reduce(mine, reduce_op="sum")
            flags = (every > 0).tolist()
        if self.preemption.shared and flags[0]:
            self.preemption.stop()
        step = self.record.step
        return flags[1] or step % self.runtime.checkpoint_every == 0 or step == self.protocol.steps

    def _advance(self, batches: Iterator[Any], feed: Feed) -> None:
        """One step that no signal cuts in two."""
        with self.preemption.protected():
            begin = time.perf_counter()
            try:
                with self.clock.time(STEP):
                    self._step(batches, feed)
            except BenchError:
                # The same signal may have ended the loader's processes, and no part of this step is done then.
                if not self.preemption.asked or self.preemption.shared:
                    raise
                self.preemption.stop()
            self.clock.read(self.record, wait=False)
            self.record.seconds += time.perf_counter() - begin

    def fit(self, feed: Feed, run: Run | None) -> Evaluation:
        """Train to the end of the budget, or to the step during which a signal asked to stop.

        Args:
            feed: batches and evaluation.
            run: where checkpoints go; None = nowhere.

        Returns:
            The last evaluation.

        Raises:
            DivergedError: a loss is no longer finite.
            PreemptedError: asked to stop; a checkpoint has been written.
        """
        steps, last = self.protocol.steps, None
        self.preemption.shared = self.fabric.world_size > 1
        batches = feed.batches(self.record.step)
        self.model.train()
        try:
            while True:
                if self.record.looked < self.record.step:
                    # Before the evaluation, which may take longer than a scheduler waits.
                    if self._is_due():
                        with self.preemption.protected():
                            self._save(run)
                    last = self._look(feed) or last
                if self.record.step == steps:
                    break
                self._advance(batches, feed)
        except PreemptedError:
            # The last look of all is made again, because what comes after it needs the evaluation.
            if self.record.looked < steps:
                self._save(run)
            self.preemption.stop(f"after step {self.record.step} of {steps}")
        assert last is not None
        return last
