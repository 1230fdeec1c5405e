"""A checkout around a small folder data set, for tests that call DVC itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tiny_data
from PIL import Image

from rc2l_bench.recipes import overlay

IGNORED = shutil.ignore_patterns("__pycache__", "figures", "metrics", "curves", "scaling", "evidence")
COLOURS = np.array([[90, 90, 90], [230, 180, 60], [30, 60, 120]])


def write_photos(root: Path, count: int = 14) -> None:
    """A data set `blobs` of the user's own: grey ground, a bright and a dark box in every image."""
    for folder in ("photos", "masks", "datasets"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        mask = np.zeros((40, 48), np.uint8)
        for label in (1, 2):
            top, left = rng.integers(0, (20, 28))
            mask[top : top + 16, left : left + 16] = label
        image = np.clip(COLOURS[mask] + rng.normal(0, 9, (40, 48, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / f"photos/p{number:02d}.png")
        Image.fromarray(mask).save(root / f"masks/p{number:02d}.png")
    described = {"images": "photos", "masks": "masks", "classes": ["ground", "bright", "dark"],
                 "shares": {"val": 0.3, "test": 0.0, "seed": 0}, "canvas": [40, 48]}  # fmt: skip
    (root / "datasets/blobs.yaml").write_text(json.dumps(described))


def write_checkout(root: Path, **changes: Any) -> None:
    """A checkout whose grid is one cell of `blobs`; everything that dvc.yaml names is there."""
    for name in ("rc2l_bench", "baselines", "pipelines", "splits", "reports", "tuned"):
        shutil.copytree(tiny_data.ROOT / name, root / name, ignore=IGNORED)
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(tiny_data.ROOT / name, root)
    write_photos(root)
    cell = {"dataset": ["blobs"], "split": ["1_2"], "method": ["baselines/supervised"], "seed": [0]}
    small = {"grid": cell, "ablation": {"single": cell}, "protocol": {"default": {"steps": 4}}}
    tiny_data.write_yaml(root / "params.yaml", overlay(tiny_data.params(), overlay(small, changes)))


def call(root: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a program of this environment in a checkout, offline and without a word to anybody."""
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "DVC_NO_ANALYTICS": "1",
    }  # fmt: skip
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def open_repository(root: Path) -> None:
    """Makes a git repository with DVC of a checkout, with everything committed."""
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
    call(root, *git, "init", "-q")
    call(root, "dvc", "init", "-q")
    (root / ".gitignore").write_text("__pycache__/\n/data/\n/runs/\n/.rc2l/\n")
    call(root, *git, "add", "-A")
    call(root, *git, "commit", "-qm", "x")
