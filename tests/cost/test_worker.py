from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from method_data import ROOT, make_protocol
from tiny_data import PROTOCOL, RUNTIME, write_checkout

from rc2l_bench.config import Runtime
from rc2l_bench.cost.measurement import measure
from rc2l_bench.cost.worker import Workload
from rc2l_bench.errors import BenchError
from rc2l_bench.variants import find_methods

TINY_RUNTIME = Runtime.model_validate_json(json.dumps(RUNTIME))


@pytest.fixture(autouse=True)
def checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.slow
def test_a_run_tells_torchs_own_peak_apart_from_resident_memory(tmp_path):
    write_checkout(tmp_path)
    where = ["data/shards/tiny", "data/splits/tiny/1_4/seed0.json", "runs/a"]
    command = [sys.executable, "-m", "pipelines.train", "tiny", "1_4", "baselines/supervised", "0", *where]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    found = json.loads((tmp_path / "runs/a/cost.json").read_text())
    assert 0 < found["peak_memory"]["allocated_mb"] < found["peak_memory"]["resident_mb"]
    assert found["device_seconds"] == found["devices"] * found["seconds"]
    assert found["steps"] == PROTOCOL["steps"]  # the step that is weighed is not counted


@pytest.mark.parametrize("method", find_methods(ROOT))
def test_every_part_of_a_method_runs_in_mixed_precision(method):
    """With all thresholds at 0, so that no loss is left out because an untrained network is sure of nothing."""
    mixed = TINY_RUNTIME.model_copy(update={"precision": "bf16-mixed"})
    found = Workload(method, make_protocol(), mixed, 3, steps=1).carry_out()
    assert found["steps"] == 1
    torch.use_deterministic_algorithms(False)


def test_a_precision_that_the_machine_does_not_have_is_named_in_one_line():
    half = TINY_RUNTIME.model_copy(update={"device": "cpu", "precision": "16-mixed"})
    with pytest.raises(BenchError, match=r"its cost could not be found: runtime\.precision: 16-mixed needs CUDA"):
        measure(["baselines/supervised"], make_protocol(), half, 3, rounds=1, steps=1)
