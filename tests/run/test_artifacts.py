from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from rc2l_bench.methods.contract import Method, MethodConfig
from rc2l_bench.metrics import BINS
from rc2l_bench.run import artifacts
from rc2l_bench.run.artifacts import Panel, metrics, render_history, score, write_artifacts
from rc2l_bench.run.calibration import Calibration
from rc2l_bench.run.evaluate import Evaluation
from rc2l_bench.run.record import Record
from rc2l_bench.seals import check_files, read_record
from rc2l_bench.types import Batch

CLASSES = ["ground", "disc", "box"]
PALETTE = [(0, 0, 0), (255, 0, 0), (0, 0, 255)]
VAL = Evaluation(ids=["a", "b"], confusion=np.array([[[4, 0, 0], [2, 2, 0], [0, 0, 0]]] * 2, np.int32))


def record(*mious: float) -> Record:
    found = Record(step=len(mious))
    for step, miou in enumerate(mious, 1):
        found.evaluations.append((step, miou))
        found.history.append({"step": step, "lr": 0.1, "loss": 1 / 3, "supervised": 1 / 3, "miou": miou})
        found.step_seconds.append(step / 10)
    found.history.append({"step": len(mious) + 1, "lr": 0.1, "loss": 1.0, "supervised": 1.0, "miou": None})
    found.seconds = 7.0
    return found


def panel(name: str = "x") -> Panel:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    truth = np.where(rng.random((9, 11)) < 0.2, 255, rng.integers(0, 3, (9, 11))).astype(np.uint8)
    return Panel(id=name, image=image, truth=truth, prediction=np.roll(truth, 1) % 3)


def written(folder: Path, test: Evaluation | None = None, net: nn.Module | None = None) -> Path:
    found = record(0.2, 0.5, 0.4)
    write_artifacts(
        folder, metrics=metrics(found, VAL, test, CLASSES, "skip", {}), cost={"steps": 3}, run={"fingerprint": "f"},
        record=found,
        evaluations={"val": VAL} | ({"test": test} if test else {}), net=net or nn.Conv2d(3, 4, 1),
        panels=[panel("x"), panel("y.1")], palette=PALETTE,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize(("identity", "name"), [("video 1/0001", "0-video 1%2F0001"), ("é" * 150, "0-" + "é" * 100)])
def test_pictures_of_ids_that_are_no_names_of_files_are_written(tmp_path, identity, name):
    artifacts._save_panels(tmp_path / "panels", [panel(identity)], PALETTE)
    assert (tmp_path / "panels" / f"{name}.truth.png").is_file()


def test_scores_are_those_computed_by_hand():
    found = score(VAL, CLASSES, "skip")
    assert found["iou"] == {"ground": 8 / 12, "disc": 0.5, "box": None}
    assert found["miou"] == pytest.approx((8 / 12 + 0.5) / 2)
    assert found["averaged_classes"] == ["ground", "disc"]
    assert found["pixel_accuracy"] == 12 / 16
    assert score(VAL, CLASSES, "zero")["averaged_classes"] == CLASSES


def test_the_metric_is_of_all_images_together_and_not_their_mean():
    uneven = Evaluation(ids=["a", "b"], confusion=np.array([[[90, 10], [0, 0]], [[0, 0], [1, 0]]], np.int32))
    assert score(uneven, ["a", "b"], "skip")["iou"] == {"a": 90 / 101, "b": 0.0}


def test_the_best_evaluation_is_told_apart_from_the_last():
    found = metrics(record(0.2, 0.5, 0.4), VAL, None, CLASSES, "skip", {})
    assert (found["miou_best"], found["best_step"]) == (0.5, 2)
    assert found["miou"] == score(VAL, CLASSES, "skip")["miou"]
    assert found["evaluations"] == [{"step": 1, "miou": 0.2}, {"step": 2, "miou": 0.5}, {"step": 3, "miou": 0.4}]
    assert found["test"] is None


def test_the_first_of_equally_good_evaluations_is_the_best():
    assert metrics(record(0.2, 0.5, 0.5), VAL, None, CLASSES, "skip", {})["best_step"] == 2


def test_validation_without_a_single_labelled_pixel_can_be_written():
    nothing = Evaluation(ids=["a"], confusion=np.zeros((1, 3, 3), np.int32))
    found = metrics(record(math.nan, math.nan), nothing, None, CLASSES, "skip", {})
    json.dumps(found, allow_nan=False)
    assert found["miou"] is found["miou_best"] is None


def test_the_test_part_is_scored_for_itself():
    assert metrics(record(0.5), VAL, VAL, CLASSES, "skip", {})["test"] == score(VAL, CLASSES, "skip")


def test_history_is_a_table_with_empty_places():
    rows = list(csv.DictReader(render_history(record(0.2, 0.5)).splitlines()))
    assert list(rows[0]) == ["step", "lr", "loss", "supervised", "miou"]
    assert [row["miou"] for row in rows] == ["0.2", "0.5", ""]
    assert float(rows[0]["loss"]) == 1 / 3, "no digit is lost"


def test_a_folder_holds_everything(tmp_path):
    names = {path.name for path in written(tmp_path).iterdir()}
    assert names == {
        "metrics.json",
        "cost.json",
        "run.json",
        "history.csv",
        "confusion.npz",
        "model.safetensors",
        "panels",
    }


def test_the_record_lists_every_other_file_with_its_hash(tmp_path):
    record, listed = read_record(written(tmp_path))
    assert record == {"fingerprint": "f"}
    assert listed.keys() == {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*") if path.name != "run.json"
    }
    check_files(tmp_path, listed)


def test_the_same_outcome_is_the_same_bytes(tmp_path):
    net = nn.Conv2d(3, 4, 1)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, net=net)
    for file in (tmp_path / "a").rglob("*.*"):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes(), file.name


def sure(evaluation: Evaluation = VAL) -> Evaluation:
    """With all of the 8 counted pixels of an image in the last bin, at a confidence of 0.9 and 1."""
    bins = np.zeros((2, 3, BINS))
    bins[..., -1] = [[8, 6, 7.2], [8, 6, 8.0]]
    return replace(evaluation, calibration=Calibration(bins=bins, nll=np.array([4.0, 8.0])))


def test_calibration_is_scored_over_all_pixels_and_as_the_mean_of_images():
    found = score(sure(), CLASSES, "skip")
    assert found["ece"] == pytest.approx((15.2 - 12) / 16)
    assert found["ece_per_image"] == pytest.approx((1.2 / 8 + 2 / 8) / 2)
    assert (found["nll"], found["nll_per_image"]) == (0.75, 0.75)
    assert "ece" not in score(VAL, CLASSES, "skip"), "an evaluation that did not count confidences"


def test_images_without_a_counted_pixel_take_no_part_in_the_calibration():
    bins = np.zeros((2, 3, BINS))
    bins[1, :, -1] = [8, 6, 8.0]
    half = replace(VAL, calibration=Calibration(bins=bins, nll=np.array([0.0, 8.0])))
    found = score(half, CLASSES, "skip")
    assert (found["ece_per_image"], found["nll_per_image"]) == (0.25, 1.0)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_likelihood_of_nothing_can_be_written(value):
    empty = replace(sure(), calibration=Calibration(bins=np.zeros((2, 3, BINS)), nll=np.full(2, value)))
    found = metrics(record(0.5), empty, sure(), CLASSES, "skip", {"noise": math.nan})
    json.dumps(found, allow_nan=False)
    assert found["ece"] is found["nll"] is found["ece_per_image"] is found["corruptions"]["noise"] is None


def test_scores_on_spoilt_images_are_told_only_where_they_were_asked_for():
    assert metrics(record(0.5), VAL, None, CLASSES, "skip", {"blur": 0.25})["corruptions"] == {"blur": 0.25}
    assert "corruptions" not in metrics(record(0.5), VAL, None, CLASSES, "skip", {})


def test_confidences_are_kept_image_by_image(tmp_path):
    with np.load(written(tmp_path, sure()) / "calibration.npz") as found:
        assert set(found.files) == {"test_bins", "test_nll", "test_ids"}
        assert np.array_equal(found["test_bins"], sure().calibration.bins)
        assert found["test_nll"].tolist() == [4.0, 8.0]
        assert found["test_ids"].tolist() == ["a", "b"]
    assert "calibration.npz" in read_record(tmp_path)[1]


@pytest.mark.parametrize("test", [None, VAL])
def test_counts_are_kept_image_by_image(tmp_path, test):
    with np.load(written(tmp_path, test) / "confusion.npz") as counts:
        assert set(counts.files) == {"val", "val_ids"} | ({"test", "test_ids"} if test else set())
        assert counts["val"].dtype == np.int32
        assert np.array_equal(counts["val"], VAL.confusion)
        assert counts["val_ids"].tolist() == ["a", "b"]


def test_the_weights_can_be_loaded_back(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    other = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    other.load_state_dict(load_file(written(tmp_path, net=net) / "model.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))


def test_pictures_are_palettes_of_class_indices(tmp_path):
    folder = written(tmp_path) / "panels"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{stem}.{kind}.png" for stem in ("0-x", "1-y.1") for kind in ("image", "prediction", "truth")
    ]
    with Image.open(folder / "0-x.truth.png") as truth:
        assert truth.mode == "P"
        assert np.array_equal(np.asarray(truth), panel().truth)
        colours = np.asarray(truth.convert("RGB"))
        assert {tuple(colours[panel().truth == k][0]) for k in range(3)} == set(PALETTE)
    with Image.open(folder / "0-x.image.png") as image:
        assert np.array_equal(np.asarray(image), panel().image)


class Half(Method):
    """Trains two layers and deploys one."""

    def __init__(self) -> None:
        super().__init__(MethodConfig.model_construct(), None, 3)
        self.first, self.second, self.frozen = nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(9, 9).requires_grad_(False)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:  # noqa: ARG002
        return {}

    def deployed(self) -> nn.Module:
        return self.first


def test_costs_are_means_of_the_steps():
    found = record(0.2, 0.5, 0.4)
    found.part_seconds = dict.fromkeys(found.part_seconds, 0.3)
    found.other_seconds = 0.6
    made = artifacts.cost(found, 8, {"resident_mb": 5.0}, Half(), "cpu", 2)
    assert made["steps"] == 3
    assert made["seconds"] == 7.0
    assert made["step_seconds"] == {"median": 0.2, "p95": pytest.approx(0.29)}
    parts = dict.fromkeys(("data", "augment", "forward", "backward", "optimise"), 0.1)
    assert made["parts"] == pytest.approx(parts | {"log_and_checkpoint": 0.2})
    assert made["waiting_for_data"] == pytest.approx(0.3 / 0.6)
    assert made["images_per_second"] == pytest.approx(8 * 3 / 0.6)
    assert made["parameters"] == {"trained": 9 + 16, "deployed": 9}
    json.dumps(made, allow_nan=False)
