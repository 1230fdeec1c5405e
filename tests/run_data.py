"""Finished runs of the tiny data set, trained in the test's own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_data
import torch

from rc2l_bench.run.cell import open_cell
from rc2l_bench.run.runner import carry_out
from rc2l_bench.run.signals import Preemption
from rc2l_bench.run.store import Run
from rc2l_bench.variants import file_name_of


def train(root: Path, method: str, seed: int = 0, **changes: Any) -> Path:
    """Train a cell in a checkout and hand out its result; the folder of the result."""
    tiny_data.write_yaml(root / "params.yaml", tiny_data.params(**changes))
    shards, plan = Path("data/shards/tiny"), Path("data/splits/tiny/1_4") / f"seed{seed}.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        cell = open_cell("tiny", "1_4", method, seed, shards, plan)
        provenance = cell.provenance()
        run = Run(root / ".rc2l/runs", provenance["fingerprint"])
        with run.lock():
            if not run.complete:
                carry_out(cell, run, provenance, Preemption())
                torch.use_deterministic_algorithms(False)
            out = root / f"runs/tiny/1_4/{file_name_of(method)}/seed{seed}"
            run.materialise(out)
    return out
