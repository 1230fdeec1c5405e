from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import run_data
import tiny_data
import torch

from rc2l_bench.metrics import calibration_error, mean_over_pixels
from rc2l_bench.run import evaluate

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
