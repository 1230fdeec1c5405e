"""What a training on `shapes` waits for: data, logging, checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from perf import Row
from rc2l_bench.schema import read_yaml

STEPS = 400
SPLIT, METHOD = "1_4", "baselines/supervised"
WAITS = ("data", "log_and_checkpoint")


def measure() -> list[Row]:
    """Share of the step time in a run of the real stages, with the protocol of `shapes` but for the steps."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _copy_checkout(root)
        script = Path(sys.executable).parent / "rc2l-bench"
        command = [script, "run", "--method", METHOD, "--split", SPLIT]
        subprocess.run(command, cwd=root, check=True, capture_output=True, env=os.environ | {"TERM": "dumb"})
        parts = json.loads((root / f"runs/shapes/{SPLIT}/{METHOD}/seed0/cost.json").read_text())["parts"]
    share = sum(parts[name] for name in WAITS) / sum(parts.values())
    return [Row("share of a step on shapes for data, logging, checkpoints", share, 0.05, least=False)]


def _copy_checkout(root: Path) -> None:
    """The files that the stages need, with a shorter training."""
    for name in ("baselines", "pipelines", "splits"):
        shutil.copytree(name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy("dvc.yaml", root)
    text, steps = Path("params.yaml").read_text(), read_yaml(Path("params.yaml"))["protocol"]["shapes"]["steps"]
    (root / "params.yaml").write_text(text.replace(f"steps: {steps}\n", f"steps: {STEPS}\n", 1))
