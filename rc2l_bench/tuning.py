"""Equal tuning: the space that is searched, what was chosen, and how the chosen numbers reach a run. Needs no torch.

`rc2l-bench tune` gives every method the same number of trials from the same sampler on images that no reported number
sees, and writes what it chose to `tuned/<dataset>.yaml`. Runs of the data set then use these numbers; `cps@untuned`
runs without.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator
from ruamel.yaml import YAML

from rc2l_bench.bounds import HUGE, TINY
from rc2l_bench.errors import UsageError, suggest
from rc2l_bench.files import write_atomically
from rc2l_bench.readers import FAULTS, first_line, parse_rows, read_text
from rc2l_bench.schema import Model, check, load, read_yaml
from rc2l_bench.variants import TUNE, UNTUNED, base_of, method_yaml, read_config, variant_of

FOLDER = Path("tuned")
LEARNING_RATE = "lr"
"""Name of the number that every method is tuned in: `optimiser.lr` of the protocol."""
MOST = 3
"""Numbers of its own that a method may have tuned."""
BUSY = 76
"""Exit code of a trial that another process, perhaps on another machine, carries out."""

Number = Annotated[float, Field(ge=-HUGE, le=HUGE)]


class Range(Model):
    """Where a number is searched."""

    low: Number
    high: Number
    log: bool
    """Whether it is spread evenly over its logarithm."""

    @model_validator(mode="after")
    def _rises(self) -> Range:
        if self.low >= self.high or (self.log and self.low < TINY):
            raise ValueError(
                f"goes from {self.low} to {self.high}: low must be below high, and at least {TINY} where log"
            )
        return self


class TuningConfig(Model):
    """How a data set is tuned; the same for every method."""

    trials: Annotated[int, Field(ge=1, le=1024)]
    """Of every method."""
    sampler: Literal["quasi_random", "random", "tpe"]
    """`quasi_random`: a scrambled Sobol sequence whose learning rates are the same for every method; `random`; `tpe`:
    Optuna's sampler, which looks at the trials before."""
    seed: Annotated[int, Field(ge=0)]
    """Of the sampler; trials are trained with seed 0."""
    lr: Range
    """Learning rates, as multiples of the protocol's."""
    own: Annotated[int, Field(ge=0, le=MOST)]
    """How many of the numbers under `tune` in a method's yaml are searched: the first ones."""
    split: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Labelled images of the trials."""
    budget: Annotated[float, Field(gt=0, le=1)]
    """Steps of a trial, as a share of the protocol's."""


class TunedMethod(Model):
    """What was chosen for one method."""

    numbers: dict[str, Number]
    """`lr`, and names as in the method's yaml, `weights.smc`."""
    score: Annotated[float, Field(ge=0, le=1)]
    """mIoU of the best trial on the tuning images: the best of several, so optimistic."""
    trials: Annotated[int, Field(ge=1)]
    diverged: Annotated[int, Field(ge=0)]
    """Trials among them whose loss was not finite; they count, with a score of 0."""
    seconds: Annotated[float, Field(ge=0)]
    """Of training, all trials together."""
    inputs: str
    """Digest of protocol, method, space and sampler; a report says so where they have changed since."""
    study: str
    """sha256 of the rows of `tuned/<dataset>.csv` that belong to the method."""


class Tuned(Model):
    """tuned/<dataset>.yaml."""

    settings: TuningConfig
    methods: dict[str, TunedMethod]


class Trial(NamedTuple):
    """One trial, a row of `tuned/<dataset>.csv`.

    Attributes:
        method: id.
        number: of the trial, from 0.
        numbers: that were tried, by name.
        miou: on the tuning images, 0..1; 0 where the trial diverged.
        diverged: whether a loss was not finite.
        seconds: of training.
        fingerprint: of the run.
    """

    method: str
    number: int
    numbers: Mapping[str, float]
    miou: float
    diverged: bool
    seconds: float
    fingerprint: str


def tuned_file(dataset: str) -> Path:
    """Where the chosen numbers of a data set lie."""
    return FOLDER / f"{dataset}.yaml"


def trials_file(dataset: str) -> Path:
    """Where all trials of a data set lie, a row each."""
    return FOLDER / f"{dataset}.csv"


def read_tuned(dataset: str) -> Tuned | None:
    """What was chosen for a data set; None where it was never tuned.

    Raises:
        UsageError: the file is not what `rc2l-bench tune` writes.
    """
    path = tuned_file(dataset)
    return load(Tuned, path) if path.is_file() else None


def write_tuned(
    dataset: str, settings: TuningConfig, chosen: Mapping[str, TunedMethod], trials: Iterable[Trial]
) -> None:
    """Write what was chosen, and all trials; methods of before stay where they were tuned with the same settings.

    Args:
        dataset: name.
        settings: of all studies.
        chosen: by method.
        trials: of these methods.
    """
    before = read_tuned(dataset)
    kept = before.methods if before and before.settings == settings else {}
    rows = [row for row in read_trials(dataset) if row.method in kept.keys() - chosen.keys()]
    methods = dict(sorted({**kept, **chosen}.items()))
    found = Tuned(settings=settings, methods=methods).model_dump(mode="json")
    text = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(found, text)
    head = f"# What equal tuning chose for `{dataset}`: made by `rc2l-bench tune --dataset {dataset}`, not by hand.\n"
    write_atomically(trials_file(dataset), _render(sorted([*rows, *trials], key=lambda row: row[:2])).encode())
    write_atomically(tuned_file(dataset), (head + text.getvalue()).encode())


def _render(trials: Iterable[Trial]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Trial._fields)
    writer.writerows([*row[:2], json.dumps(row.numbers), *row[3:]] for row in trials)
    return text.getvalue()


def read_trials(dataset: str) -> list[Trial]:
    """All trials of a data set, by method and number; none where it was never tuned.

    Raises:
        UsageError: the file is not what `rc2l-bench tune` writes.
    """
    path = trials_file(dataset)
    if not path.is_file():
        return []
    try:
        head, *rows = parse_rows(read_text(path), path)
        return [_parse(dict(zip(head, row, strict=True))) for row in rows]
    except FAULTS as error:
        reason = first_line(error)
        raise UsageError(f"{path}: not a table of trials ({reason}): restore it, or run `rc2l-bench tune`") from None


def _parse(row: Mapping[str, str]) -> Trial:
    numbers = {str(name): float(value) for name, value in json.loads(row["numbers"]).items()}
    return Trial(
        row["method"], int(row["number"]), numbers, float(row["miou"]), row["diverged"] == "True",
        float(row["seconds"]), row["fingerprint"],
    )  # fmt: skip


def digest_trials(trials: Iterable[Trial]) -> str:
    """sha256 of what was tried and how it scored, for `TunedMethod.study`."""
    return _digest({"trials": [[row.number, dict(row.numbers), row.miou] for row in trials]})


def space_of(method: str, config: TuningConfig, lr: float) -> dict[str, Range]:
    """The numbers of a method that are searched, the learning rate first.

    Args:
        method: id.
        config: of the data set.
        lr: learning rate of the protocol.

    Raises:
        UsageError: the method's yaml declares too many numbers, or one that it does not have.
    """
    file = method_yaml(method)
    declared = dict(_ranges(read_yaml(file).get(TUNE, {})))
    if len(declared) > MOST or "" in declared:
        raise UsageError(f"{file}: {TUNE}: expected at most {MOST} names, each with low, high and log")
    known = dict(_leaves(read_config(base_of(method))))
    space = {LEARNING_RATE: Range(low=config.lr.low * lr, high=config.lr.high * lr, log=config.lr.log)}
    for name, content in list(declared.items())[: config.own]:
        if not isinstance(known.get(name), int | float):
            raise UsageError(f"{file}: {TUNE}.{name}: not a number of this file; {suggest(name, list(known))}")
        space[name] = check(Range, content, Path(f"{file}: {TUNE}.{name}"))
    return space


def _ranges(declared: Any, path: str = "") -> list[tuple[str, Any]]:  # noqa: ANN401 - YAML holds anything
    """Flatten what stands under `tune`, which is nested as the method's numbers are, to dotted names and ranges."""
    inner = list(declared.values()) if isinstance(declared, dict) else [None]
    # An empty range is a range that lacks everything; a method without `tune` has no range.
    if not all(isinstance(value, dict) for value in inner) or (path and not inner):
        return [(path, declared)]
    return [one for key, value in declared.items() for one in _ranges(value, f"{path}.{key}" if path else str(key))]


def _leaves(config: Any, path: str = "") -> list[tuple[str, Any]]:  # noqa: ANN401 - YAML holds anything
    if not isinstance(config, dict):
        return [(path, config)]
    return [leaf for key, value in config.items() for leaf in _leaves(value, f"{path}.{key}" if path else str(key))]


def digest_inputs(method: str, config: TuningConfig, protocol: Mapping[str, Any]) -> str:
    """Digest what the trials of a method are drawn and trained with, but for images and code.

    Args:
        method: id.
        config: of the data set.
        protocol: of its tuning images, see `protocol.stated`.

    Raises:
        UsageError: there is no such method, or its ranges are wrong.
    """
    space = space_of(method, config, protocol["optimiser"]["lr"])
    return _digest({
        "protocol": protocol, "method": read_config(method), "seed": config.seed, "sampler": config.sampler,
        "split": config.split, "space": {name: where.model_dump() for name, where in space.items()},
    })  # fmt: skip


def _digest(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def chosen_for(method: str, dataset: str) -> TunedMethod | None:
    """What a run of a method uses; None for a data set or method that was not tuned, and for `@untuned`."""
    if variant_of(method) == UNTUNED:
        return None
    found = read_tuned(dataset)
    return found.methods.get(base_of(method)) if found else None


def own_numbers(numbers: Mapping[str, float]) -> dict[str, float]:
    """The numbers that stand in the method's yaml: all but the learning rate, which is the protocol's."""
    return {name: value for name, value in numbers.items() if name != LEARNING_RATE}
