"""`rc2l-bench tune`: the same number of trials for every method, from the same sampler, on images apart.

Optuna keeps the trials of a data set in a journal, a file that several processes may append to. A trial is a run of
the store, so a killed one continues and none is computed twice. Trials are drawn by number before they are carried out:
which process carries one out, and when, changes nothing.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc2l_bench.config import TUNING, Params, stated
from rc2l_bench.draws import derive
from rc2l_bench.errors import BenchError
from rc2l_bench.files import exclusive, write_atomically
from rc2l_bench.readers import read_json
from rc2l_bench.run.pipeline import cell_stages
from rc2l_bench.tuning import (
    BUSY,
    MOST,
    Range,
    Trial,
    TunedMethod,
    TuningConfig,
    digest_inputs,
    digest_trials,
    space_of,
)

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

WORK = Path(".rc2l/tuning")
SEED = 0
"""Of the trainings of all trials."""
DIGITS = 3
"""Significant digits of a number that is tried, so that what is chosen can be read."""
POLL = 5.0
"""Seconds between looks at trials that other processes carry out."""
ANSWER = "answer"
"""User attribute of a trial: what its process wrote."""

RunModules = Callable[[Sequence[Sequence[str]]], Iterator[tuple[int, int]]]
"""Runs modules, and yields index and exit code of each as it ends: `process_pool.run_modules`, or an engine."""


def point_to_numbers(point: Sequence[float], space: Mapping[str, Range]) -> dict[str, float]:
    """Map a point of the unit cube to the numbers of a space, its first coordinates in the order of the names."""
    return {name: _place(share, where) for share, (name, where) in zip(point, space.items(), strict=False)}


def _place(share: float, where: Range) -> float:
    low, high = (math.log(where.low), math.log(where.high)) if where.log else (where.low, where.high)
    value = low + share * (high - low)
    rounded = float(f"{math.exp(value) if where.log else value:.{DIGITS}g}")
    return min(max(rounded, where.low), where.high)


def draw_points(config: TuningConfig) -> list[list[float]]:
    """The points of the unit cube that all methods share; more trials begin with the same points.

    One cube with a coordinate for every number that a method may have, so that the first coordinate, the learning rate,
    is the same for every method. Quasi-random points spread evenly for any number of them (Bousquet et al. 2017,
    arXiv 1706.03200; AlgoPerf, arXiv 2306.07179, tunes so).
    """
    if config.sampler == "random":
        import numpy as np

        return [list(row) for row in np.random.default_rng(config.seed).random((config.trials, MOST + 1))]
    from scipy.stats import qmc

    power = max(0, math.ceil(math.log2(config.trials)))  # Sobol's balance holds for powers of two
    points = qmc.Sobol(MOST + 1, scramble=True, seed=config.seed).random_base2(power)
    return [list(row) for row in points[: config.trials]]


@dataclass(frozen=True, kw_only=True)
class MethodStudy:
    """The trials of one method.

    Attributes:
        method: id.
        space: numbers that are searched, by name.
        config: how the data set is tuned.
        inputs: see `tuning.digest_inputs`; another digest is another study.
        study: Optuna's.
    """

    method: str
    space: dict[str, Range]
    config: TuningConfig
    inputs: str
    study: Study

    def plan(self) -> None:
        """Draw the trials that are not drawn yet: all at once, or one where the sampler looks at those before.

        Each is one entry of the journal, so that a kill leaves it as a whole or not at all.
        """
        from optuna.trial import TrialState, create_trial

        drawn = len(self.study.trials)
        if self.config.sampler == "tpe":
            fresh = [self._look_back(drawn)] if drawn < self.config.trials and not self.unfinished() else []
        else:
            fresh = [point_to_numbers(point, self.space) for point in draw_points(self.config)[drawn:]]
        for numbers in fresh:
            self.study.add_trial(
                create_trial(state=TrialState.RUNNING, params=numbers, distributions=_distributions(self.space))
            )

    def _look_back(self, drawn: int) -> dict[str, float]:
        """Let Optuna's sampler choose the next numbers, on a copy of the study in memory."""
        import optuna

        sampler = _tpe(derive(self.config.seed, f"tuning/{self.method}", drawn))
        copy = optuna.create_study(direction="maximize", sampler=sampler)
        copy.add_trials(self.study.trials)
        return dict(copy.ask(_distributions(self.space)).params)

    def unfinished(self) -> list[FrozenTrial]:
        """Trials that have no score yet, in the order of their numbers."""
        return [trial for trial in self._trials() if not trial.state.is_finished()]

    def finished(self) -> list[FrozenTrial]:
        """Trials with a score, in the order of their numbers."""
        return [trial for trial in self._trials() if trial.state.is_finished()]

    def _trials(self) -> list[FrozenTrial]:
        return sorted(self.study.trials, key=lambda trial: trial.number)[: self.config.trials]

    def tell(self, number: int, answer: Mapping[str, Any]) -> None:
        """Note what came of a trial, unless another process has done so already."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import Trial as OpenTrial

        trial = self.study.trials[number]
        if trial.state.is_finished():
            return
        try:
            OpenTrial(self.study, trial._trial_id).set_user_attr(ANSWER, dict(answer))
            self.study.tell(number, answer["miou"])
        except UpdateFinishedTrialError:
            return  # The other process was faster; it has told the same.

    def rows(self) -> list[Trial]:
        """All finished trials as they are written to a file."""
        return [
            Trial(self.method, trial.number, numbers_of(trial), trial.values[0], **_facts(trial.user_attrs[ANSWER]))
            for trial in self.finished()
        ]

    def choose(self) -> TunedMethod:
        """The numbers of the best trial, the first one among equals."""
        trials = self.rows()
        best = max(trials, key=lambda trial: trial.miou)
        return TunedMethod(
            numbers=dict(best.numbers), score=best.miou, trials=len(trials),
            diverged=sum(trial.diverged for trial in trials), seconds=sum(trial.seconds for trial in trials),
            inputs=self.inputs, study=digest_trials(trials),
        )  # fmt: skip


def _tpe(seed: int) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed % 2**31)


def numbers_of(trial: FrozenTrial) -> dict[str, float]:
    """The numbers of a trial, by name."""
    return {name: float(value) for name, value in trial.params.items()}


def _facts(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in ("diverged", "seconds", "fingerprint")}


def _distributions(space: Mapping[str, Range]) -> dict[str, Any]:
    from optuna.distributions import FloatDistribution

    return {name: FloatDistribution(where.low, where.high, log=where.log) for name, where in space.items()}


def open_studies(dataset: str, methods: Sequence[str], params: Params) -> list[MethodStudy]:
    """Open the studies of a data set, one for each method, in its journal.

    Args:
        dataset: name.
        methods: ids without variants.
        params: gives the settings and the protocol.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = WORK / f"{dataset}.journal"
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    config, protocol = params.tuning_of(dataset), params.protocol_of(f"{TUNING}{dataset}")
    studies = []
    for method in methods:
        space = space_of(method, config, protocol.optimiser.lr)
        inputs = digest_inputs(method, config, stated(protocol))
        name = f"{method} {inputs[:16]}"
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        studies.append(MethodStudy(method=method, space=space, config=config, inputs=inputs, study=study))
    return studies


def carry_out_trials(
    dataset: str, studies: Sequence[MethodStudy], run: RunModules, told: Callable[[MethodStudy, int], None]
) -> Iterator[int]:
    """Carry out all trials that have no score yet, several at a time; the data have to be there.

    Args:
        dataset: that is tuned.
        studies: of its methods.
        run: what carries out their modules.
        told: called with a study and the number of a trial when its score is known.

    Yields:
        The exit code of every process that failed; its trial has no score and is tried again by the next call.
    """
    while waiting := waiting_trials(studies):
        # One method after the other, so that a table of all methods fills evenly.
        waiting.sort(key=lambda pair: pair[1].number)
        calls = [["rc2l_bench.run.trial", str(write_request(dataset, *pair))] for pair in waiting]
        failed, busy = False, 0
        for index, code in run(calls):
            study, trial = waiting[index]
            answer = _answer_file(dataset, study, trial)
            if code == 0 and answer.is_file():
                study.tell(trial.number, read_json(answer))
                told(study, trial.number)
            elif code == BUSY:
                busy += 1
            else:
                failed = True
                yield code or 1
        if failed:
            return
        if busy == len(waiting):  # all that is left is in other hands, which may be killed before they are through
            time.sleep(POLL)


def waiting_trials(studies: Sequence[MethodStudy]) -> list[tuple[MethodStudy, FrozenTrial]]:
    """Draw what is not drawn yet, and list the trials that have no score."""
    # Two processes that draw at once would draw the same trials twice.
    with exclusive(WORK / "plan"):
        for study in studies:
            study.plan()
    return [(study, trial) for study in studies for trial in study.unfinished()]


def _answer_file(dataset: str, study: MethodStudy, trial: FrozenTrial) -> Path:
    return WORK / dataset / study.method / study.inputs[:16] / f"{trial.number}.json"


def write_request(dataset: str, study: MethodStudy, trial: FrozenTrial) -> Path:
    """Write down what the process of a trial has to do."""
    name, split = f"{TUNING}{dataset}", study.config.split
    answer = _answer_file(dataset, study, trial)
    train = cell_stages({"dataset": name, "split": split, "method": study.method, "seed": str(SEED)})[-1]
    shards, plan = train.command[7:9]
    asked = {
        "dataset": name, "split": split, "method": study.method, "seed": SEED, "shards": shards, "plan": plan,
        "numbers": numbers_of(trial), "answer": str(answer),
    }  # fmt: skip
    path = answer.with_suffix(".request")
    write_atomically(path, json.dumps(asked, indent=1).encode())
    return path


def prepare_data(dataset: str, split: str, method: str) -> None:
    """Bring the stages of a data set's tuning images up to date, all but the training.

    Raises:
        BenchError: a stage failed; it has said why.
    """
    item = {"dataset": f"{TUNING}{dataset}", "split": split, "method": method, "seed": str(SEED)}
    for stage in cell_stages(item)[:-1]:
        if stage.carry_out():
            raise BenchError(f"{TUNING}{dataset}: the stage {stage.name} failed: see above")
