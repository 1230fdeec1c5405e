"""Folders of evidence: what is copied into them, and what is found wrong with them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from report_data import CPS, PLACE, confusions, reseal

from rc2l_bench.report.evidence import check_folder
from rc2l_bench.seals import seal


def faults(root):
    return [line.removeprefix(f"{root}/{PLACE}/") for line in check_folder(root)[1]]


def rewrite(folder, name, **changes):
    """Changes keys of a file of JSON, and the hashes with it: what somebody does who wants another result."""
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    reseal(folder)


def test_whole_runs_can_be_checked_where_they_lie(tmp_path, finished):
    assert check_folder(tmp_path / "runs") == (1, [])


@pytest.mark.parametrize("name", ["../../stolen.csv", "/etc/hostname"])
def test_a_run_that_lists_files_elsewhere_is_refused(tmp_path, finished, name):
    record = json.loads((finished / "run.json").read_text())
    parts = {key: value for key, value in record.items() if key != "sha256"}
    (finished / "run.json").write_bytes(seal({**parts, "files": {**record["files"], name: "0" * 64}}))
    assert faults(tmp_path / "runs") == [f"run.json: lists a file outside of its folder: {name}"]


def test_a_file_that_was_changed_left_out_or_added_is_found(tmp_path, finished):
    (finished / "cost.json").write_text("{}")
    (finished / "history.csv").unlink()
    (finished / "notes.txt").write_text("mine")
    assert faults(tmp_path / "runs") == [
        "notes.txt: is not among the run's files",
        "cost.json: has changed since it was written",
        "history.csv: No such file or directory",
    ]


def test_a_part_of_the_fingerprint_that_was_edited_is_found(tmp_path, finished):
    record = json.loads((finished / "run.json").read_text())
    reseal(finished, protocol=record["protocol"] | {"steps": 9})
    (fault,) = faults(tmp_path / "runs")
    assert fault.startswith(f"run.json: says fingerprint {record['fingerprint'][:12]}, its parts give ")


def test_a_fact_is_no_part_of_the_fingerprint(tmp_path, finished):
    reseal(finished, commit="f" * 40, hardware={"gpu": "another"})
    assert faults(tmp_path / "runs") == []


def test_a_score_that_the_counts_do_not_give_is_found(tmp_path, finished):
    said = json.loads((finished / "metrics.json").read_text())
    better = {**said["test"], "miou": said["test"]["miou"] + 0.001, "pixel_accuracy": 0.99}
    rewrite(finished, "metrics.json", iou={**said["iou"], "ring": 0.987654}, test=better)
    ring, test, accuracy = faults(tmp_path / "runs")
    assert ring == f"metrics.json: val iou/ring is 0.987654, the counts give {said['iou']['ring']:.6f}"
    assert test == f"metrics.json: test miou is {better['miou']:.6f}, the counts give {said['test']['miou']:.6f}"
    assert accuracy.startswith("metrics.json: test pixel_accuracy is 0.990000, the counts give ")


def test_a_best_evaluation_that_is_none_is_found(tmp_path, finished):
    rewrite(finished, "metrics.json", miou_best=0.99)
    (fault,) = faults(tmp_path / "runs")
    assert fault.startswith("metrics.json: miou_best is 0.990000, the best evaluation has ")


def test_a_curve_that_is_another_is_found(tmp_path, finished):
    text = (finished / "history.csv").read_text()
    (finished / "history.csv").write_text(text.replace("250,", "251,"))
    reseal(finished)
    assert faults(tmp_path / "runs") == ["history.csv: has other evaluations than metrics.json"]


def test_nonsense_with_the_right_hash_is_found(tmp_path, finished):
    (finished / "cost.json").write_text("")
    reseal(finished)
    (fault,) = check_folder(tmp_path / "runs")[1]
    assert "supervised/seed0: no time and memory: cost.json: not valid JSON" in fault


def test_counts_of_a_test_part_that_are_missing_are_found(tmp_path, finished):
    counts = confusions(0.5)
    np.savez_compressed(finished / "confusion.npz", val=counts, val_ids=np.array([str(i) for i in range(40)]))
    reseal(finished)
    assert faults(tmp_path / "runs")[-1] == "confusion.npz: has no \"There is no item named 'test.npy' in the archive\""


def test_a_run_in_the_wrong_place_is_found(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "runs/supervised")
    shutil.copytree(finished, tmp_path / f"runs/shapes/1_16/{CPS}/seed0")
    count, lines = check_folder(tmp_path / "runs")
    assert count == 3
    assert "was it renamed?" in lines[0]
    assert (
        lines[1] == f"{tmp_path}/runs/supervised: a run lies here, expected it in <dataset>/<split>/<method id>/seed<k>"
    )
