"""Recipes for VOC and Cityscapes at full size, a step and an image each, without values."""

from __future__ import annotations

import pytest
from method_data import ROOT

from rc2l_bench.config import Params, load
from rc2l_bench.cost.dry_run import FullRun, dry_run
from rc2l_bench.data.datasets.registry import load_dataset

PARAMS = load(Params, ROOT / "params.yaml")
SMALL = PARAMS.recipes["voc_r50_321"].batch.model_copy(update={"labelled": 2, "unlabelled": 2})
WHOLE = {"batch": SMALL, "eval": PARAMS.recipes["voc_r50_321"].eval}


DATASETS = ("voc", "cityscapes", "ade20k", "coco_instances")
OF_DATASETS = [name for name in PARAMS.recipes if name.startswith(DATASETS)]


def set_of(recipe: str) -> str:
    return next(name for name in DATASETS if recipe.startswith(name))


def carry_out(recipe: str, method: str, **changes) -> FullRun:
    data = load_dataset(set_of(recipe))
    protocol = PARAMS.recipes[recipe].model_copy(update=changes)
    return dry_run(method, protocol, len(data.classes), data.canvas, data.counts["val"])


@pytest.mark.slow
@pytest.mark.parametrize("recipe", OF_DATASETS)
def test_every_recipe_takes_a_step_and_scores_an_image_at_full_size(recipe):
    found, protocol = carry_out(recipe, "baselines/supervised"), PARAMS.recipes[recipe]
    assert found.steps == protocol.steps
    assert found.images == load_dataset(set_of(recipe)).counts["val"] * protocol.eval.evaluations
    # A ResNet-50 takes more than 50 GFLOP for a crop of 321, three times as many with the backward pass.
    pixels = protocol.crop[0] * protocol.crop[1] / 321**2
    assert found.step > 1.5e11 * pixels * protocol.batch.labelled
    assert found.image > 1e11
    assert found.flops == found.step * found.steps + found.image * found.images


@pytest.mark.slow
def test_a_recipe_takes_the_steps_of_a_method_with_unlabelled_images():
    found = carry_out("voc_rc2l_train", "rc2l_bench/methods/rc2l", batch=SMALL)
    assert found.step > 2 * carry_out("voc_rc2l_train", "baselines/supervised_region", batch=SMALL).step


def test_windows_that_overlap_cost_more_than_the_whole_image():
    whole = carry_out("cityscapes_r50_801", "baselines/supervised", **WHOLE)
    windows = carry_out("cityscapes_r50_801", "baselines/supervised", batch=SMALL)
    assert windows.image > 1.2 * whole.image
    assert windows.step == whole.step
