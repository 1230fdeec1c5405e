"""The stages of dvc.yaml for a cell, over small archives of COCO's layout, with a published list."""

from __future__ import annotations

import json

import archives_data
import coco_data
import numpy as np
import pytest
from coco_data import IDS, name_of

from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.shards import Shards

pytest.importorskip("pycocotools", reason="pycocotools is not installed")
pytestmark = pytest.mark.slow

DEFINITION = """
ids: '\\d{12}'
example: "000000177254"
sources:
  one: {repository: nobody/one, commit: abcdef0123456789abcdef0123456789abcdef01}
lists:
  "few":
    labelled: 3
    files: [{source: one, path: a/labeled.txt}]
"""
METHOD = "baselines/supervised"
LABELLED = [name_of(number) for number in (9, 34, 177254)]


@pytest.fixture(scope="module")
def done(tmp_path_factory, launch):
    """A checkout in which a cell of a published list was carried out; the run."""
    root = tmp_path_factory.mktemp("coco")
    dataset = coco_data.write(root / "mirror")
    lines = [f"train2017/{name}.jpg masks/{name}.png" for name in LABELLED]
    archives_data.publish(root, dataset, "few", DEFINITION, lines)
    small = {"crop": [33, 33], "strong": {"sigma": [0.1, 1.0]}, "eval": {"evaluations": 1}}
    env = archives_data.write_checkout(root, dataset, root / "mirror", "few", METHOD, **small)
    return root, archives_data.run_cell(launch, root, env, "coco_instances", "few", METHOD)


def test_the_published_list_is_labelled(done):
    split = json.loads((done[0] / "data/splits/coco_instances/few/seed0.json").read_text())
    assert split["labelled"] == LABELLED
    assert split["train"]["count"] == len(IDS["train"])


def test_labelled_shards_hold_the_masks_of_the_regions_and_the_pool_none(done):
    folder = done[0] / "data/shards/coco_instances"
    labelled, pool = Shards(folder / "labelled/few/seed0"), Shards(folder / "pool")
    assert (len(labelled), len(pool), pool.index.samples.with_mask) == (3, len(IDS["train"]), 0)
    for place, identity in enumerate(labelled.ids):
        assert np.array_equal(labelled.read_mask(place), coco_data.classes_of(int(identity)))


def test_81_classes_are_scored(done):
    metrics = json.loads((done[1] / "metrics.json").read_text())
    assert set(metrics["iou"]) == set(load_dataset("coco_instances").classes)
    assert len(metrics["iou"]) == 81
