"""Every stage of dvc.yaml over small archives of VOC's layout, down to a report."""

from __future__ import annotations

import json

import archives_data
import pytest
import voc_data
from voc_data import CLEAN, MORE, VAL

from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.packing import verify
from rc2l_bench.data.shards import Shards

pytestmark = pytest.mark.slow

DEFINITION = """
ids: '\\d{4}_\\d{6}'
example: "2007_000032"
clean: "4"
sources:
  one: {repository: nobody/one, commit: abcdef0123456789abcdef0123456789abcdef01}
lists:
  "4":
    labelled: 4
    files: [{source: one, path: a/labeled.txt}]
"""
METHOD = "baselines/fixmatch"


@pytest.fixture(scope="module")
def done(tmp_path_factory, launch):
    """A checkout in which a cell of a published list was carried out; the run."""
    root = tmp_path_factory.mktemp("voc")
    dataset = voc_data.write(root / "mirror")
    lines = [f"JPEGImages/{name}.jpg SegmentationClass/{name}.png" for name in reversed(CLEAN)]
    archives_data.publish(root, dataset, "4", DEFINITION, lines)
    env = archives_data.write_checkout(
        root,
        dataset,
        root / "mirror",
        "4",
        METHOD,
        crop=[33, 33],
        strong={"sigma": [0.1, 1.0]},
        eval={"evaluations": 2},
    )
    return root, archives_data.run_stages(launch, root, env, "voc", "4", METHOD)


def test_the_published_list_is_labelled_and_all_other_training_images_are_not(done):
    root, _ = done
    split = json.loads((root / "data/splits/voc/4/seed0.json").read_text())
    assert (split["labelled"], split["unlabelled"]) == (CLEAN, None)
    assert split["train"]["count"] == len(CLEAN) + len(MORE)
    assert split["provenance"]["repository"] == "nobody/one"


def test_shards_hold_the_bytes_of_the_archives(done):
    root, _ = done
    files = voc_data.voc_files()
    labelled = verify(root / "data/shards/voc/labelled/4/seed0")
    tar = (labelled.folder / labelled.index.shards[0].name).read_bytes()
    for entry in labelled.table.entries(range(len(labelled))):
        assert files[f"{voc_data.VOC}/JPEGImages/{entry.id}.jpg"] in tar
        assert files[f"{voc_data.VOC}/SegmentationClass/{entry.id}.png"] in tar


def test_the_pool_has_every_training_image_and_no_mask(done):
    pool = Shards(done[0] / "data/shards/voc/pool")
    assert list(pool.ids) == voc_data.TRAIN
    assert pool.index.samples.with_mask == 0


def test_every_validation_image_is_scored_at_its_own_size_under_the_whole_protocol(done):
    metrics = json.loads((done[1] / "metrics.json").read_text())
    assert set(metrics["iou"]) == set(load_dataset("voc").classes)
    assert 0 <= metrics["miou"] <= 1
    assert metrics["test"] is None
    run = json.loads((done[1] / "run.json").read_text())
    assert run["protocol"]["eval"]["protocol"] == {"mode": "whole"}
    assert len(list((done[1] / "panels").glob("*.truth.png"))) == len(VAL)


def test_the_report_shows_the_cell(done):
    table = (done[0] / "reports/results.csv").read_text()
    assert "voc" in table
    assert METHOD in table
    assert (done[0] / "reports/index.html").is_file()
