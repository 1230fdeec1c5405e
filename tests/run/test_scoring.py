from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import run_data
import tiny_data
import torch

from baselines.supervised import Supervised
from rc2l_bench.config import Runtime
from rc2l_bench.data.shards import Shards
from rc2l_bench.methods.contract import load_config
from rc2l_bench.metrics import calibration_error, mean_over_pixels
from rc2l_bench.run import evaluate
from rc2l_bench.run.hardware import open_fabric
from rc2l_bench.run.scoring import Scorer

METHOD = "baselines/cps"
LONG = {"protocol": {"default": {"steps": 24}}}
"""Until more than one class is predicted."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """The same training, scored as it is, and on spoilt images, too."""
    root = tmp_path_factory.mktemp("checkout")
    tiny_data.write_checkout(root)
    plain = run_data.train(root, METHOD, **LONG)
    kept = plain.rename(root / "plain")
    return kept, run_data.train(root, METHOD, **LONG, eval={"corruptions": ["noise", "contrast"]})


def read(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_corruptions_add_scores_and_change_nothing_else(runs):
    plain, spoilt = (read(folder) for folder in runs)
    corruptions = spoilt.pop("corruptions")
    assert plain == spoilt
    assert list(corruptions) == ["contrast", "noise"]
    assert all(0 <= value <= 1 for value in corruptions.values())
    assert {plain["miou"], *corruptions.values()} != {plain["miou"]}
    for name in ("model.safetensors", "history.csv"):
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes()


def test_a_method_that_makes_pseudo_labels_has_their_score_at_every_evaluation(runs):
    rows = list(csv.DictReader((runs[0] / "history.csv").read_text().splitlines()))
    assert [bool(row["pseudo_miou"]) for row in rows] == [bool(row["miou"]) for row in rows]
    assert all(0 < float(row["pseudo_miou"]) < 1 for row in rows if row["miou"])


def test_a_method_without_pseudo_labels_has_no_score_of_them(tmp_path):
    tiny_data.write_checkout(tmp_path)
    folder = run_data.train(tmp_path, "baselines/supervised", protocol={"default": {"steps": 4}})
    assert "pseudo_miou" not in (folder / "history.csv").read_text()


class TeacherByColour(Supervised):
    """Its pseudo-labels are nearly the truth of the tiny images; what it predicts is always class 0."""

    def predict(self, image: torch.Tensor) -> torch.Tensor:
        return torch.tensor([1.0, 0, 0], device=image.device)[:, None, None].expand(len(image), 3, *image.shape[-2:])

    def pseudo_logits(self, image: torch.Tensor) -> torch.Tensor:
        colours = torch.tensor([[90, 90, 90], [230, 180, 60], [30, 60, 120]]) / 255
        return -torch.cdist(image.flatten(2).mT, colours).mT.unflatten(2, image.shape[-2:])


def test_pseudo_labels_are_scored_and_not_predictions(tiny):
    fabric = open_fabric(Runtime.model_validate_json(json.dumps(tiny_data.RUNTIME)))
    protocol = tiny_data.protocol()
    method = TeacherByColour(load_config("baselines/supervised"), protocol, 3)
    scorer = Scorer(fabric=fabric, protocol=protocol, workers=0, cache_mb=0)
    audited = Shards(tiny / "audit/1_4/seed0")
    assert scorer.audit(method, audited) > 0.99
    confusion = scorer.evaluate(method, audited).confusion
    assert (len(confusion), confusion[:, :, 1:].sum()) == (tiny_data.COUNTS["train"] - tiny_data.LABELLED, 0)


@pytest.mark.parametrize("part", ["val", "test"])
def test_what_is_kept_of_single_images_gives_what_is_told_of_all(runs, part):
    scores = read(runs[0]) if part == "val" else read(runs[0])["test"]
    with np.load(runs[0] / "calibration.npz") as kept, np.load(runs[0] / "confusion.npz") as counts:
        bins, nll, confusion = kept[f"{part}_bins"], kept[f"{part}_nll"], counts[part]
        assert kept[f"{part}_ids"].tolist() == counts[f"{part}_ids"].tolist()
    np.testing.assert_array_equal(bins[:, 0].sum(1), confusion.sum((1, 2)))
    np.testing.assert_array_equal(bins[:, 1].sum(1), confusion.trace(axis1=1, axis2=2))
    assert scores["ece"] == calibration_error(bins.sum(0))
    assert scores["nll"] == mean_over_pixels(nll.sum(), bins.sum(0))
    assert scores["ece_per_image"] == calibration_error(bins).mean()
    assert scores["nll_per_image"] == mean_over_pixels(nll, bins).mean()


def test_confidences_are_counted_at_the_end_alone(tmp_path, monkeypatch):
    tiny_data.write_checkout(tmp_path)
    asked, real = [], evaluate.count_calibration

    def spy(logits: torch.Tensor, *rest: torch.Tensor):
        asked.append(len(logits))
        return real(logits, *rest)

    monkeypatch.setattr(evaluate, "count_calibration", spy)
    run_data.train(tmp_path, METHOD, protocol={"default": {"steps": 4, "eval": {"evaluations": 4}}})
    assert sum(asked) == tiny_data.COUNTS["val"] + tiny_data.COUNTS["test"]
