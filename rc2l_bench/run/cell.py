"""One cell: all that its numbers depend on. Reading it needs no torch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rc2l_bench.config import Params, Protocol, load
from rc2l_bench.data.shards import Shards
from rc2l_bench.errors import BenchError
from rc2l_bench.nets.weights import find_weights
from rc2l_bench.sources import digest_file, digest_sources, fingerprint
from rc2l_bench.variants import base_of, read_config

NUMERIC = ("torch", "torchvision", "timm", "kornia", "kornia_rs", "numpy", "scipy")
"""Packages whose version may move a number; they take part in the fingerprint."""


def versions() -> dict[str, str]:
    """Versions of the numeric packages."""

    def one(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "missing"

    return {package: one(package) for package in NUMERIC}


def is_first_process() -> bool:
    """Whether this is the first of the processes of a training; known before `open_fabric`, which starts the others."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


@dataclass(frozen=True, kw_only=True)
class RunInputs:
    """All that the numbers of a run depend on, but for the code."""

    dataset: str
    split: str
    method: str
    seed: int
    params: Params
    config: Any
    plan: dict[str, Any]
    pool: Shards
    labelled: Shards
    val: Shards
    test: Shards | None

    @property
    def protocol(self) -> Protocol:
        """The protocol of the cell's data set."""
        return self.params.protocol_of(self.dataset)

    def provenance(self) -> dict[str, Any]:
        """run.json: the fingerprint, every part of it, and on what the run was carried out."""
        weights = find_weights(self.protocol.net)
        parts = {
            "cell": {"dataset": self.dataset, "split": self.split, "method": self.method, "seed": self.seed},
            "split": {
                "id": self.plan["id"],
                "labelled": len(self.plan["labelled"]),
                "unlabelled": len(self.plan["unlabelled"]),
            },
            "shards": {
                "pool": self.pool.digest,
                "labelled": self.labelled.digest,
                "val": self.val.digest,
                "test": self.test.digest if self.test else None,
            },
            "dataset": self.val.index.dataset.model_dump(mode="json"),
            "protocol": self.protocol.model_dump(mode="json"),
            "weights": digest_file(weights) if weights else self.protocol.net.weights,
            "method_config": self.config,
            "runtime": self.params.runtime.model_dump(mode="json", exclude={"workers", "cache_mb", "checkpoint_every"}),
            "source": digest_sources(base_of(self.method)),
            "versions": versions(),
        }
        return {"fingerprint": fingerprint(parts), **parts}


def open_cell(dataset: str, split: str, method: str, seed: int, shards: Path, plan_file: Path) -> RunInputs:
    """Reads everything that a cell needs."""
    params = load(Params, Path("params.yaml"))
    try:
        plan = json.loads(plan_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BenchError(f"{plan_file}: not a split ({error}): delete it and run the stages again") from None
    test = Shards(shards / "test")
    cell = RunInputs(
        dataset=dataset, split=split, method=method, seed=seed, params=params, config=read_config(method),
        plan=plan,
        pool=Shards(shards / "pool"), labelled=Shards(shards / "labelled" / split), val=Shards(shards / "val"),
        test=test if test.labelled else None,
    )  # fmt: skip
    if cell.labelled.index.split_id != plan["id"]:
        raise BenchError(f"{cell.labelled.folder}: was made for another split than {plan_file}: run the stages again")
    if not cell.val.labelled:
        raise BenchError(f"{cell.val.folder}: validation needs images with masks, there are none")
    return cell
