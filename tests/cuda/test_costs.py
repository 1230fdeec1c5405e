"""What steps cost on a GPU: waits, memory, time."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest
import torch
from device_data import images_per_second, peak_against_estimate, runtime
from method_data import METHODS, ROOT, make, make_batch, optimiser_of
from methods.test_waits import ALLOWED
from waits_data import count_fetches

from rc2l_bench.config import Params, load
from rc2l_bench.cost.measurement import PARTS, measure, middle, scale_protocol
from rc2l_bench.errors import BenchError
from rc2l_bench.run.allocations import take_step

PARAMS = load(Params, ROOT / "params.yaml")
CLASSES = 21
TABLE = ["supervised", "supervised_region", "unimatch", "cps", "u2pl"]


@pytest.mark.parametrize("name", METHODS)
def test_a_step_waits_no_more_often_than_is_counted_on_the_cpu(name, found):
    method = make(name)
    batch, optimiser = make_batch(method), optimiser_of(method)
    take_step(method, optimiser, batch, 0.5, 0.1)
    torch.cuda.synchronize()
    fetched: Counter[str] = Counter()
    with warnings.catch_warnings(record=True) as caught, count_fetches(fetched):
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            take_step(method, optimiser, batch, 0.5, 0.1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = fetched["fetch"] + sum("synchronizing CUDA operation" in str(one.message) for one in caught)
    found.setdefault("waits of a step", {})[name] = waits
    assert waits <= sum(ALLOWED.get(name, {}).values())


@pytest.mark.parametrize("name", ["baselines/supervised", "baselines/fixmatch", "baselines/cps"])
def test_the_peak_is_what_is_estimated_without_a_gpu(name, device, found):
    protocol = scale_protocol(PARAMS, "voc", "resnet50", (321, 321), 4)
    ratio = peak_against_estimate(name, protocol, CLASSES, device)
    found.setdefault("peak of memory by its estimate, voc, resnet50, 321, 4 + 4", {})[name] = ratio
    assert ratio == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
def test_the_cost_table_at_the_size_of_voc(backbone, device, found, monkeypatch):
    """For information: 513 × 513, 8 + 8 images; what does not fit on the card is told."""
    monkeypatch.chdir(ROOT)
    protocol = scale_protocol(PARAMS, "voc", backbone, (513, 513), 8)
    table = found.setdefault("cost, voc, 513, 8 + 8", {}).setdefault(backbone, {})
    for name in [f"baselines/{name}" for name in TABLE] + ["rc2l_bench/methods/rc2l"]:
        try:
            answers = measure([name], protocol, runtime(device), CLASSES, rounds=1, steps=5)[name]
        except BenchError as error:
            table[name] = str(error)
            continue
        parts = {part: middle(answers, "parts", part) for part in PARTS}
        table[name] = {
            "step_seconds": middle(answers, "step_seconds", "median"), "parts": parts,
            "share_of_augmentation": parts["augment"] / sum(parts.values()),
            "allocated_mb": middle(answers, "peak_memory", "allocated_mb"),
            "images_per_second": middle(answers, "images_per_second"),
        }  # fmt: skip
    # A card may be too small for some of them, and is for nothing else.
    assert all("memory" in row for row in table.values() if isinstance(row, str))
    assert any(isinstance(row, dict) for row in table.values())


def test_augmentation_alone(device, found):
    """For information: images/s of the recipe for VOC at 513 × 513, a weak and two strong views."""
    protocol = scale_protocol(PARAMS, "voc", None, (513, 513), 8)
    found["augmentation, images/s"] = images_per_second(protocol, device, 20)
    assert found["augmentation, images/s"] > 0
