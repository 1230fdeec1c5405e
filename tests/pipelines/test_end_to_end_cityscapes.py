"""Every stage of dvc.yaml over small archives of Cityscapes' layout, down to a report."""

from __future__ import annotations

import json

import archives_data
import cityscapes_data
import numpy as np
import pytest

from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.packing import verify
from rc2l_bench.data.shards import Shards
from rc2l_bench.data.splits import split_id

pytestmark = pytest.mark.slow

METHOD = "baselines/cps"
WINDOWS = {"mode": "sliding", "window": [40, 40], "stride": 0.666666, "combine": "softmax"}


@pytest.fixture(scope="module")
def done(tmp_path_factory, launch):
    """A checkout in which a cell of a drawn split was carried out; the run."""
    root = tmp_path_factory.mktemp("cityscapes")
    dataset = cityscapes_data.write(root / "mirror")
    env = archives_data.write_checkout(
        root, dataset, root / "mirror", "1_4", METHOD, crop=[40, 40], strong={"sigma": [0.1, 1.0]},
        eval={"evaluations": 2, "protocol": WINDOWS},
    )  # fmt: skip
    return root, archives_data.run_stages(launch, root, env, "cityscapes", "1_4", METHOD)


def test_a_quarter_is_labelled(done):
    split = json.loads((done[0] / "data/splits/cityscapes/1_4/seed0.json").read_text())
    assert len(split["labelled"]) == 4
    assert split["unlabelled"] is None
    assert split["train"]["ids_sha256"] == split_id(cityscapes_data.IDS["train"])


def test_shards_are_whole_and_the_test_part_has_images_only(done):
    folder = done[0] / "data/shards/cityscapes"
    for name, count in (("pool", 16), ("val", 4), ("test", 3), ("labelled/1_4/seed0", 4)):
        assert len(verify(folder / name)) == count
    assert [Shards(folder / name).index.samples.with_mask for name in ("pool", "test")] == [0, 0]


def test_masks_in_the_shards_are_classes(done):
    val = Shards(done[0] / "data/shards/cityscapes/val")
    values = set(np.unique(np.concatenate([val.read_mask(place).ravel() for place in range(len(val))])))
    assert values <= {*range(19), 255}
    assert 255 in values


def test_windows_and_hard_pixels_are_stored_with_the_result(done):
    run = json.loads((done[1] / "run.json").read_text())
    assert run["protocol"]["eval"]["protocol"] == WINDOWS
    assert run["protocol"]["supervised_loss"] == "ohem"


def test_nineteen_classes_are_scored_and_absent_ones_count_neither_0_nor_1(done):
    metrics = json.loads((done[1] / "metrics.json").read_text())
    assert set(metrics["iou"]) == set(load_dataset("cityscapes").classes)
    present = [value for value in metrics["iou"].values() if value is not None]
    assert metrics["miou"] == pytest.approx(np.mean(present))
    assert metrics["test"] is None


def test_the_report_shows_the_cell(done):
    table = (done[0] / "reports/results.csv").read_text()
    assert "cityscapes" in table
    assert METHOD in table
    assert (done[0] / "reports/index.html").is_file()
