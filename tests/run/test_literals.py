"""Every value that a word in params.yaml can have, through the real trainer, and every method in mixed precision."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import tiny_data
import torch
from pydantic import BaseModel

from rc2l_bench.config import Params
from rc2l_bench.errors import UsageError
from rc2l_bench.run.cell import open_cell
from rc2l_bench.run.runner import carry_out
from rc2l_bench.run.signals import Preemption
from rc2l_bench.run.store import Run
from rc2l_bench.variants import find_methods

SLIDING = {"mode": "sliding", "window": [32, 32], "stride": 0.5, "combine": "softmax"}
METHODS = find_methods(tiny_data.ROOT)
TESTED: dict[str, dict[Any, dict[str, Any]]] = {
    "output_stride": {n: {"net": {"output_stride": n}} for n in (8, 16, 32)},
    "name": {name: {"optimiser": {"name": name}} for name in ("sgd", "adamw")},
    "supervised_loss": {name: {"supervised_loss": name} for name in ("ce", "ohem")},
    "mode": {
        "whole": {"eval": {"protocol": {"mode": "whole"}}},
        "sliding": {"eval": {"protocol": SLIDING}},
        "center_crop": {"eval": {"protocol": {"mode": "center_crop", "window": [24, 24]}}},
    },
    "absent": {rule: {"eval": {"absent": rule}} for rule in ("skip", "predicted", "zero")},
    "combine": {name: {"eval": {"protocol": SLIDING | {"combine": name}}} for name in ("softmax", "logits", "sum")},
}
"""By field of the protocol and value: what to change in the tiny protocol."""
RUNTIME = {"device": {"auto", "cpu"}, "precision": {"32-true", "bf16-mixed"}, "workers": {"auto"}}
"""Values that every machine can carry out; what is left needs CUDA."""
ELSEWHERE = {
    "policy": {"uniform", "balanced"},
    "draws": {"by_seed", "fixed"},
    "sampler": {"quasi_random", "random", "tpe"},
    "trackers": {"dvclive", "tensorboard", "mlflow", "wandb"},
    "corruptions": {"noise", "blur", "brightness", "contrast", "jpeg"},
}
"""Of stages before training, of tuning, of trackers, of spoilt images; tested there."""


def literals(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Field and value of all literals in a model and in those inside it."""

    def inside(name: str, annotation: Any) -> Iterator[tuple[str, Any]]:
        if get_origin(annotation) is Literal:
            yield from ((name, value) for value in get_args(annotation))
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from literals(annotation)
        else:
            for part in get_args(annotation):
                yield from inside(name, part)

    for name, field in model.model_fields.items():
        yield from inside(name, field.annotation)


def train(checkout: Path, monkeypatch, method: str = "baselines/supervised", **changes: Any) -> dict[str, Any]:
    """The result of a whole training with other params: history's last row, and metrics."""
    monkeypatch.chdir(checkout)
    tiny_data.write_yaml(checkout / "params.yaml", tiny_data.params(**changes))
    shards, plan = checkout / "data/shards/tiny", checkout / "data/splits/tiny/1_4/seed0.json"
    cell = open_cell("tiny", "1_4", method, 0, shards, plan)
    run = Run(checkout / "store", cell.provenance()["fingerprint"])
    carry_out(cell, run, cell.provenance(), Preemption())
    torch.use_deterministic_algorithms(False)
    names, *_, last = (run.result / "history.csv").read_text().splitlines()
    row = dict(zip(names.split(","), last.split(","), strict=True))
    return {"row": row, "metrics": json.loads((run.result / "metrics.json").read_text())}


def assert_finite(found: dict[str, Any]) -> None:
    assert all(math.isfinite(float(value)) for value in found["row"].values()), found["row"]
    assert 0 <= found["metrics"]["miou"] <= 1


def test_every_literal_of_params_is_in_these_tests():
    """A new value fails here until there is a training with it."""
    every: dict[str, set[Any]] = {}
    for name, value in literals(Params):
        every.setdefault(name, set()).add(value)
    known = {name: set(values) for name, values in TESTED.items()} | RUNTIME | ELSEWHERE
    known["device"] = known["device"] | {"cuda"}
    known["precision"] = known["precision"] | {"16-mixed"}
    assert every == known


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in TESTED for value in TESTED[field]])
def test_a_value_of_the_protocol_trains_and_is_scored(checkout, monkeypatch, field, value):
    assert_finite(train(checkout, monkeypatch, protocol={"default": TESTED[field][value]}))


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in RUNTIME for value in sorted(RUNTIME[field])])
def test_a_value_of_the_runtime_trains_and_is_scored(checkout, monkeypatch, field, value):
    assert_finite(train(checkout, monkeypatch, runtime={field: value}))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_in_mixed_precision_has_about_the_losses_that_it_has_in_full(checkout, monkeypatch, method):
    """bfloat16 keeps 8 bits, so a few per cent are rounding; a loss that overflows or is cut off is far from it."""
    short = {"default": {"steps": 2, "eval": {"evaluations": 1}, "optimiser": {"lr": 1e-6}}}
    full = train(checkout, monkeypatch, method, protocol=short)
    mixed = train(checkout, monkeypatch, method, protocol=short, runtime={"precision": "bf16-mixed"})
    assert_finite(mixed)
    for name, value in full["row"].items():
        if name not in ("step", "lr", "miou"):
            assert float(mixed["row"][name]) == pytest.approx(float(value), rel=0.05, abs=0.02), name


def test_half_precision_on_the_cpu_is_refused_with_what_to_do(checkout, monkeypatch):
    with pytest.raises(UsageError, match=r"^runtime\.precision: 16-mixed needs CUDA; on the CPU use 32-true or bf16"):
        train(checkout, monkeypatch, runtime={"precision": "16-mixed"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(checkout, monkeypatch):
    with pytest.raises(UsageError, match=r"^runtime: 1 CUDA devices wanted, 0 are here"):
        train(checkout, monkeypatch, runtime={"device": "cuda"})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_every_precision_trains_on_a_gpu(checkout, monkeypatch, precision):
    assert_finite(train(checkout, monkeypatch, runtime={"device": "cuda", "precision": precision}))
