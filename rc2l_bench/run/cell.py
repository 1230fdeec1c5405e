"""One cell: all that its numbers depend on. Reading it needs no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rc2l_bench.config import Corruption, Params, Protocol, load, stated
from rc2l_bench.data import splits
from rc2l_bench.data.addresses import without_secrets
from rc2l_bench.data.datasets.pool_config import StreamConfig
from rc2l_bench.data.pool_sets import open_sets, read_summary
from rc2l_bench.data.shards import Shards
from rc2l_bench.data.splits import Split
from rc2l_bench.data.training_pool import TrainingPool, choose_unlabelled
from rc2l_bench.errors import BenchError
from rc2l_bench.nets.weights import find_weights
from rc2l_bench.recipes import overlay
from rc2l_bench.schema import check
from rc2l_bench.sources import digest_file, digest_sources, fingerprint
from rc2l_bench.tuning import LEARNING_RATE, chosen_for, own_numbers
from rc2l_bench.variants import PROTOCOL, VARIANTS, base_of, method_yaml, protocol_changes, read_config, variant_of

NUMERIC = ("torch", "torchvision", "timm", "kornia", "kornia_rs", "numpy", "scipy")
"""Packages whose version may move a number; they take part in the fingerprint."""

TRIAL = "trial"
"""Status of a run with numbers that `rc2l-bench tune` tries."""


def versions() -> dict[str, str]:
    """Versions of the numeric packages."""

    def one(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "missing"

    return {package: one(package) for package in NUMERIC}


@dataclass(frozen=True, kw_only=True)
class RunInputs:
    """All that the numbers of a run depend on, but for the code."""

    dataset: str
    split: str
    method: str
    seed: int
    params: Params
    config: Any
    """The method's yaml as this run uses it, tuned numbers and the changes of a variant put in; read once."""
    numbers: dict[str, float]
    """Tuned numbers; empty for a run that is not tuned. See `rc2l_bench.tuning`."""
    tuning: dict[str, Any]
    """Where they come from, for run.json."""
    changes: dict[str, Any]
    """What the variant changes of the declared protocol; read once, like `config`."""
    plan: Split
    pool: Shards
    labelled: Shards
    val: Shards
    test: Shards | None
    audited: Shards | None
    """Unlabelled training images with masks, on which pseudo-labels are scored; None where there are none."""
    extra: list[Shards]
    """Further unlabelled images, one set for each entry of the data set's `pool`."""
    stream: StreamConfig | None
    """Tars that unlabelled images are streamed from instead."""

    @property
    def declared(self) -> Protocol:
        """The protocol of the cell's data set, equal for every method."""
        return self.params.protocol_of(self.dataset)

    @cached_property
    def protocol(self) -> Protocol:
        """The protocol that is trained with: the declared one with a variant's changes and the tuned learning rate."""
        varied = vary_protocol(self.declared, self.changes, self.method)
        if LEARNING_RATE not in self.numbers:
            return varied
        optimiser = varied.optimiser.model_copy(update={"lr": self.numbers[LEARNING_RATE]})
        return varied.model_copy(update={"optimiser": optimiser})

    @property
    def shown(self) -> list[Shards]:
        """Images that are labelled or scored, which no pool may bring in without labels."""
        return [self.labelled, self.val, *([self.test] if self.test else [])]

    @cached_property
    def unlabelled(self) -> TrainingPool:
        """The images without labels, where they are not streamed."""
        return choose_unlabelled(self.plan, self.pool, self.extra, self.shown)

    @property
    def num_unlabelled(self) -> int | None:
        """Images without labels; None where they are streamed, and nobody knows."""
        if self.stream:
            return None
        return len(self.unlabelled.selection) if self.extra else self.plan.num_unlabelled

    @property
    def unlabelled_id(self) -> str:
        """Identity of the unlabelled side: that of the split, and of what is added to it."""
        added = [self.stream.model_dump_json()] if self.stream else [shards.digest for shards in self.extra]
        own = self.plan.unlabelled_id
        return hashlib.sha256("\n".join([own, *added]).encode()).hexdigest() if added else own

    @property
    def corruptions(self) -> list[Corruption]:
        """How the validation part is spoilt to be scored once more; not at all for a trial, which is chosen by mIoU."""
        return [] if self.tuning["status"] == TRIAL else self.params.eval.corruptions

    def provenance(self) -> dict[str, Any]:
        """run.json: the fingerprint, every part of it, and on what the run was carried out."""
        weights = find_weights(self.protocol.net)
        parts = {
            "cell": {"dataset": self.dataset, "split": self.split, "method": self.method, "seed": self.seed},
            "split": {
                "id": self.plan.id,
                "labelled": len(self.plan.labelled),
                "unlabelled": self.num_unlabelled,
                "unlabelled_id": self.unlabelled_id,
                "draws": self.plan.draws,
            },
            "shards": {
                "pool": self.pool.digest,
                "labelled": self.labelled.digest,
                "val": self.val.digest,
                "test": self.test.digest if self.test else None,
            },
            "pool": {
                "sets": [shards.digest for shards in self.extra],
                "left_out": self.unlabelled.left_out if self.extra else 0,
                "stream": self.stream and [*map(without_secrets, self.stream.stream)],
                "shuffle": self.stream and self.stream.shuffle,
                "replayable": self.stream is None,
            },
            "dataset": self.val.index.dataset.model_dump(mode="json"),
            "protocol": stated(self.declared),
            "protocol_changes": self.changes,
            "tuning": {"numbers": self.numbers, **self.tuning},
            "weights": digest_file(weights) if weights else self.protocol.net.weights,
            "method_config": self.config,
            "runtime": self.params.runtime.identity(),
            "source": digest_sources(base_of(self.method)),
            "versions": versions(),
            # Only where there are some: what is switched off names no other run.
            **({"corruptions": self.corruptions} if self.corruptions else {}),
            **({"audited": self.audited.digest} if self.audited else {}),
        }
        return {"fingerprint": fingerprint(parts), **parts}


def vary_protocol(protocol: Protocol, changes: Mapping[str, Any], method: str) -> Protocol:
    """Put what a variant changes of the protocol on top of one.

    Args:
        protocol: the declared one.
        changes: see `variants.protocol_changes`.
        method: id of the variant, for messages.

    Raises:
        UsageError: it changes keys that are not there, or to absurd values.
    """
    if not changes:
        return protocol
    where = Path(f"{method_yaml(method)}: {VARIANTS}.{variant_of(method)}.{PROTOCOL}")
    return check(Protocol, overlay(protocol.model_dump(mode="json"), changes), where)


def _tuned_numbers(method: str, dataset: str) -> tuple[dict[str, float], dict[str, Any]]:
    """What tuning chose for a run, and what run.json says of it."""
    chosen = chosen_for(method, dataset)
    if chosen is None:
        return {}, {"status": "untuned"}
    return chosen.numbers, {"status": "tuned", "trials": chosen.trials, "study": chosen.study}


def open_cell(
    dataset: str,
    split: str,
    method: str,
    seed: int,
    shards: Path,
    plan_file: Path,
    trial: Mapping[str, float] | None = None,
) -> RunInputs:
    """Read everything that a cell needs.

    Args:
        dataset: name.
        split: name.
        method: id.
        seed: of the cell.
        shards: folder with `pool`, `extra`, `val`, `test`, and `<split>/seed<k>` in `labelled` and in `audit`.
        plan_file: what the stage `split` wrote.
        trial: numbers of a trial of `rc2l-bench tune`; None = those that tuning chose for the data set, if any.

    Raises:
        UsageError: a configuration is wrong.
        BenchError: the stages of the data have to run again.
    """
    params = load(Params, Path("params.yaml"))
    numbers, tuning = _tuned_numbers(method, dataset) if trial is None else (dict(trial), {"status": TRIAL})
    plan = splits.read(plan_file)
    test, audited = Shards(shards / "test"), Shards(shards / "audit" / split / f"seed{seed}")
    cell = RunInputs(
        dataset=dataset, split=split, method=method, seed=seed, params=params,
        config=read_config(method, own_numbers(numbers)), numbers=numbers, tuning=tuning, plan=plan,
        changes=protocol_changes(method),
        pool=Shards(shards / "pool"), labelled=Shards(shards / "labelled" / split / f"seed{seed}"),
        val=Shards(shards / "val"), test=test if test.labelled else None, extra=open_sets(shards / "extra"),
        # A trial is chosen by its mIoU alone.
        audited=audited if audited.labelled and trial is None else None,
        stream=read_summary(shards / "extra").stream,
    )  # fmt: skip
    if cell.labelled.index.split_id != plan.id:
        raise BenchError(f"{cell.labelled.folder}: was made for another split than {plan_file}: run the stages again")
    if cell.pool.index.samples.ids_sha256 != plan.train.ids_sha256:
        raise BenchError(f"{cell.pool.folder}: has other images than {plan_file} was made of: run the stages again")
    if not cell.val.labelled:
        raise BenchError(f"{cell.val.folder}: validation needs images with masks, there are none")
    return cell
