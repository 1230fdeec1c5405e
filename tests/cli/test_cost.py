"""`rc2l-bench cost` in this checkout, with estimates and measurements that take no time."""

from __future__ import annotations

import json

import pytest
import tiny_data
from commands_data import call, refused

from rc2l_bench.config import Params, load
from rc2l_bench.cost import dry_run as dry_run_module
from rc2l_bench.cost import measurement
from rc2l_bench.cost.dry_run import FullRun

PARAMS = load(Params, tiny_data.ROOT / "params.yaml")
GIB = 2**30


@pytest.fixture(autouse=True)
def checkout(monkeypatch):
    monkeypatch.chdir(tiny_data.ROOT)


def row(text: str, name: str) -> list[str]:
    """What stands behind a name in a table."""
    return next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1:]


def test_an_estimate_is_a_row_with_multiples_of_the_reference(monkeypatch, tmp_path):
    answers = {
        "baselines/supervised": {"memory": {"parameters": GIB, "activations": 3 * GIB}, "flops": 2 * 10**12},
        "baselines/cps": {"memory": {"parameters": 2 * GIB, "activations": 4 * GIB}, "flops": 5 * 10**12},
    }
    monkeypatch.setattr(measurement, "estimate", lambda method, *_: answers[method])
    code, text = call("cost", "--symbolic", "--method", "cps", "--regions", "7", "--out", str(tmp_path / "a.json"))
    assert code == 0, text
    assert row(text, "supervised") == ["1.00", "3.00", "4.00", "1.00", "2.00", "1.00"]
    assert row(text, "cps") == ["2.00", "4.00", "6.00", "1.50", "5.00", "2.50"]
    assert "every image has 7 regions" in " ".join(text.split())
    assert json.loads((tmp_path / "a.json").read_text())["methods"] == answers


def answer(step: float, memory: dict[str, float]) -> dict:
    parts = dict.fromkeys(measurement.PARTS, step / 4)
    return {"step_seconds": {"median": step, "p95": 2 * step}, "parts": parts, "images_per_second": 8 / step,
            "peak_memory": memory}  # fmt: skip


@pytest.mark.parametrize(("kinds", "cells"), [
    (("allocated_mb", "resident_mb"), ["100", "2.00", "300"]),
    (("resident_mb",), ["300", "1.50"]),
])  # fmt: skip
def test_a_measurement_is_a_row_of_medians_and_its_memory_is_torchs_own_where_it_is_known(monkeypatch, kinds, cells):
    """Ratios are taken of the first kind of memory."""
    base, other = {"allocated_mb": 50.0, "resident_mb": 200.0}, {"allocated_mb": 100.0, "resident_mb": 300.0}
    found = {
        method: [answer(step, {kind: memory[kind] for kind in kinds}) for step in (slow * 0.1, slow * 0.2, slow * 9)]
        for method, slow, memory in (("baselines/supervised", 1, base), ("baselines/cps", 3, other))
    }
    monkeypatch.setattr(measurement, "measure", lambda *_, **__: found)
    code, text = call("cost", "--method", "cps")
    assert code == 0, text
    assert row(text, "cps") == ["600", "3.00", "1200", *["150"] * 4, "13.3", *cells]
    assert "left out: supervised 3 min 20 s, cps 10 min 00 s" in " ".join(text.split()), "1,000 steps"


@pytest.fixture
def whole(monkeypatch):
    """A dry run that takes no time."""
    found = FullRun(step=2 * 10**12, image=10**12, steps=40_000, images=5_000)
    monkeypatch.setattr(dry_run_module, "dry_run", lambda *_: found)


def test_the_command_tells_what_every_recipe_takes(whole, tmp_path):
    out = tmp_path / "a.json"
    code, text = call("cost", "--recipes", "--dataset", "cityscapes", "--method", "cps", "--out", str(out))
    assert code == 0, text
    for name in (name for name in PARAMS.recipes if name.startswith("cityscapes_")):
        assert row(text, name) == ["2.00", "1.00", "40,000", "5,000", "85"]
    assert out.is_file()


def test_a_data_set_without_recipes_is_told(whole):
    told = refused("cost", "--recipes", "--dataset", "shapes")
    assert "no recipe named shapes_" in told
    assert "some of voc, cityscapes, ade20k, coco_instances" in told


@pytest.mark.parametrize("crop", [" ", "x", "64x64x64", "big"])
def test_a_crop_that_is_none_is_refused(crop):
    assert "error: --crop" in refused("cost", "--symbolic", "--crop", crop)


@pytest.mark.parametrize("options", [["--crop", "3"], ["--crop", "9" * 5000], ["--batch", "3"]])
def test_an_absurd_cost_is_one_line(options):
    assert "error: --" in refused("cost", *options)


def test_an_unknown_method_is_refused():
    assert "supervised" in refused("cost", "--method", "supervized")
