"""The stages of dvc.yaml for a cell, over a small archive of ADE20K's layout, with a published list."""

from __future__ import annotations

import json

import ade20k_data
import archives_data
import numpy as np
import pytest
from ade20k_data import IDS

from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.shards import Shards

pytestmark = pytest.mark.slow

DEFINITION = """
ids: 'ADE_train_\\d{8}'
example: ADE_train_00001609
sources:
  one: {repository: nobody/one, commit: abcdef0123456789abcdef0123456789abcdef01}
lists:
  "few":
    labelled: 4
    files: [{source: one, path: a/labeled.txt}]
"""
METHOD = "baselines/unimatch_v2"
LABELLED = IDS["train"][3:7]


@pytest.fixture(scope="module")
def done(tmp_path_factory, launch):
    """A checkout in which a cell of a published list was carried out; the run."""
    root = tmp_path_factory.mktemp("ade20k")
    dataset = ade20k_data.write(root / "mirror")
    lines = [f"images/training/{name}.jpg annotations/training/{name}.png" for name in reversed(LABELLED)]
    archives_data.publish(root, dataset, "few", DEFINITION, lines)
    small = {"crop": [33, 33], "strong": {"sigma": [0.1, 1.0]}, "eval": {"evaluations": 2}}
    env = archives_data.write_checkout(root, dataset, root / "mirror", "few", METHOD, **small)
    return root, archives_data.run_cell(launch, root, env, "ade20k", "few", METHOD)


def test_the_published_list_is_labelled_and_all_other_training_images_are_not(done):
    split = json.loads((done[0] / "data/splits/ade20k/few/seed0.json").read_text())
    assert (split["labelled"], split["unlabelled"]) == (LABELLED, None)
    assert split["train"]["count"] == len(IDS["train"])


def test_the_pool_has_no_mask_and_masks_elsewhere_are_classes(done):
    folder = done[0] / "data/shards/ade20k"
    assert list(Shards(folder / "pool").ids) == IDS["train"]
    assert Shards(folder / "pool").index.samples.with_mask == 0
    val = Shards(folder / "val")
    values = set(np.unique(np.concatenate([val.read_mask(place).ravel() for place in range(len(val))])))
    assert 255 in values
    assert values <= {*range(150), 255}


def test_150_classes_are_scored_by_the_teacher(done):
    metrics = json.loads((done[1] / "metrics.json").read_text())
    assert set(metrics["iou"]) == set(load_dataset("ade20k").classes)
    assert json.loads((done[1] / "run.json").read_text())["scored"] == "teacher"
