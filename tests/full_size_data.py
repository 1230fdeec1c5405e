"""Recipes as they are, carried out for a few steps on made-up archives whose images are as large as the real ones."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ade20k_data
import archives_data
import cityscapes_data
import coco_data
import pytest
import tiny_data
import voc_data

from rc2l_bench.config import Params, Protocol, load
from rc2l_bench.run.hardware import commit

STEPS = 20
SETS = {"voc": voc_data, "cityscapes": cityscapes_data, "ade20k": ade20k_data, "coco_instances": coco_data}
SIZES = {
    "voc": ((375, 500), (500, 375)),
    "cityscapes": ((1024, 2048), (1024, 2048)),
    "ade20k": ((512, 683), (683, 512)),
    "coco_instances": ((480, 640), (640, 480)),
}
"""Height and width of usual images, one after the other."""
FEW = {"cityscapes": {"train": 8, "val": 2, "test": 1}}
"""Images of sets whose images are so large that scoring all of the archives' takes most of the time."""
OWN = {
    "unimatch_v2": "baselines/unimatch_v2", "unimatch": "baselines/unimatch", "u2pl": "baselines/u2pl",
    "cps": "baselines/cps",
}  # fmt: skip
"""Methods by the end of the recipes that are theirs; all others are the home method's."""
PARAMS = load(Params, tiny_data.ROOT / "params.yaml")


def set_of(recipe: str) -> str | None:
    """The data set that a recipe is for, None where it is for none of these."""
    return next((name for name in SETS if recipe.startswith(name)), None)


def method_of(recipe: str) -> str:
    return next((method for end, method in OWN.items() if recipe.endswith(end)), "rc2l_bench/methods/rc2l")


def short_protocol(recipe: str, steps: int = STEPS) -> dict[str, Any]:
    """A recipe with all that costs days left out: steps, most of the batch, evaluations on the way; and its weights."""
    found = PARAMS.recipes[recipe].model_dump(mode="json")
    # Fewer cannot be: PixelNet normalises a mean over each image, and unlabelled images are mixed in pairs.
    cut = {"steps": steps, "batch": {"labelled": 2, "unlabelled": 2}, "eval": {"evaluations": 1}}
    return tiny_data.merged(found, cut | {"net": {"weights": "none"}})


def distinct_recipes() -> list[str]:
    """The recipes of these sets that differ in more than `short_protocol` leaves out."""
    found = {json.dumps([short_protocol(name), set_of(name), method_of(name)]): name
             for name in reversed(PARAMS.recipes) if set_of(name)}  # fmt: skip
    return sorted(found.values())


def write_archives(folder: Path, dataset: str) -> archives_data.Dataset:
    """The archives of a data set, small only in the number of images."""
    made = SETS[dataset]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "size_of", lambda name: SIZES[dataset][int(str(name)[-1]) % 2])
        if dataset not in FEW:
            return made.write(folder)
        patch.setattr(made, "IDS", {part: made.IDS[part][:few] for part, few in FEW[dataset].items()})
        return made.write(folder, counts=FEW[dataset])


def carry_out(root: Path, recipe: str, method: str, threads: int = 1, steps: int = STEPS) -> dict[str, Any]:
    """Train and score a recipe by the command line, from the archives on.

    Returns:
        What it took, and what it found: `run` is the folder of the run.
    """
    dataset = set_of(recipe)
    assert dataset is not None
    runtime = {"threads": threads, "checkpoint_every": steps, "log_every": 1}
    archives_data.lay_out(root, tiny_data.params(protocol={dataset: short_protocol(recipe, steps)}, runtime=runtime))
    env = archives_data.environment(root, write_archives(root / "mirror", dataset), root / "mirror")
    start = time.monotonic()
    program = Path(sys.executable).with_name("rc2l-bench")
    command = [program, "run", "--dataset", dataset, "--split", "1_4", "--method", method]
    done = subprocess.run(command, cwd=root, env=os.environ | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run = root / "runs" / dataset / "1_4" / method / "seed0"
    cost, metrics = (json.loads((run / f"{name}.json").read_text()) for name in ("cost", "metrics"))
    return {
        "run": run, "recipe": recipe, "method": method, "steps": steps, "commit": commit(),
        "seconds": time.monotonic() - start,
        "step_seconds": cost["step_seconds"]["median"], "resident_mb": cost["peak_memory"]["resident_mb"],
        "losses": losses(run), "miou": metrics["miou"],
    }  # fmt: skip


def losses(run: Path) -> list[float]:
    with (run / "history.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


def check(found: dict[str, Any]) -> None:
    """What has to be true of every recipe."""
    record = json.loads((found["run"] / "run.json").read_text())
    protocol, wanted = (
        json.dumps(said) for said in (record["protocol"], short_protocol(found["recipe"], found["steps"]))
    )
    assert Protocol.model_validate_json(protocol) == Protocol.model_validate_json(wanted)
    assert len(found["losses"]) == found["steps"]
    assert all(map(math.isfinite, found["losses"]))
    assert 0 <= found["miou"] <= 1
    panels, dataset = len(list((found["run"] / "panels").glob("*.truth.png"))), set_of(found["recipe"])
    assert panels == FEW.get(dataset, SETS[dataset].COUNTS)["val"]
