"""Every recipe of VOC, Cityscapes, ADE20K and COCO at full size, for 20 steps. `make full-size`.

Not collected by `make test`: on a CPU it takes many hours.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import full_size_data
import pytest
import tiny_data
import torch

from rc2l_bench.files import write_atomically
from rc2l_bench.run.hardware import hardware

EVIDENCE = tiny_data.ROOT / "reports/evidence/hardware/full_size.json"


def write_down(found: dict) -> None:
    """Add what was found to what is known of other recipes."""
    known = json.loads(EVIDENCE.read_text()) if EVIDENCE.exists() else {}
    kept = {key: value for key, value in found.items() if key not in ("run", "recipe")}
    known[found["recipe"]] = kept | {"hardware": hardware(torch.device("cpu"))}
    EVIDENCE.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(EVIDENCE, (json.dumps(known, indent=2, sort_keys=True) + "\n").encode())


@pytest.mark.parametrize("recipe", full_size_data.distinct_recipes())
def test_a_recipe_learns_and_is_scored_at_full_size(tmp_path: Path, recipe: str):
    threads = len(os.sched_getaffinity(0))
    # Two have a step of a warm-up and one after it.
    steps = int(os.environ.get("STEPS", full_size_data.STEPS))
    found = full_size_data.carry_out(tmp_path, recipe, full_size_data.method_of(recipe), threads, steps)
    full_size_data.check(found)
    write_down(found)
