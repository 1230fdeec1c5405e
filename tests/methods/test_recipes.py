"""The protocols of params.yaml for the large data sets."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import timm
import torch

from rc2l_bench.config import Params, Sliding, load
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.nets.region_net import RegionNet

ROOT = Path(__file__).parents[2]
PARAMS = load(Params, ROOT / "params.yaml")
RECIPES = sorted(PARAMS.recipes)


@pytest.fixture(params=RECIPES)
def recipe(request):
    return PARAMS.recipes[request.param]


@pytest.mark.parametrize("dataset", ["voc", "cityscapes", "ade20k", "coco_instances"])
def test_a_large_data_set_takes_one_of_its_recipes(dataset):
    assert PARAMS.protocol[dataset] in [PARAMS.recipes[name] for name in RECIPES if name.startswith(dataset)]


@pytest.mark.parametrize("depth", [50, 101])
def test_backbones_have_the_deep_stem_of_the_published_codes_and_weights_exist(depth):
    with torch.device("meta"):
        net = timm.create_model(f"resnet{depth}s", features_only=True)
    stem = [
        tuple(value.shape) for name, value in net.state_dict().items() if name.startswith("conv1") and value.ndim == 4
    ]
    assert stem == [(64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3)]
    assert timm.list_pretrained(f"resnet{depth}s*") == [f"resnet{depth}s.gluon_in1k"]


@pytest.mark.parametrize("name", ["voc_r50_321", "voc_r101_513_os8", "cityscapes_r50_801"])
@pytest.mark.parametrize("build", [PixelNet, RegionNet])
def test_both_networks_take_the_crop(name, build):
    """On the meta device: shapes are computed, numbers are not."""
    recipe = PARAMS.recipes[name]
    with torch.device("meta"):
        net = build(recipe.net.model_copy(update={"weights": "none"}), 21)
        features = net.backbone(torch.zeros(2, 3, *recipe.crop))
    assert features[-1].shape[-1] == math.ceil(recipe.crop[1] / recipe.net.output_stride)


@pytest.mark.parametrize("build", [PixelNet, RegionNet])
def test_both_networks_take_the_patches_of_dinov2(build):
    recipe = PARAMS.recipes["voc_unimatch_v2"]
    with torch.device("meta"):
        net = build(recipe.net.model_copy(update={"weights": "none"}), 21)
        features = net.backbone(torch.zeros(2, 3, *recipe.crop))
    assert [tuple(x.shape) for x in features] == [(2, 768, 518 // 14, 518 // 14)] * 4


def test_windows_step_by_two_thirds_rounded_up(recipe):
    form = recipe.eval.protocol
    if isinstance(form, Sliding):
        assert form.window == recipe.crop
        assert math.ceil(form.window[0] * form.stride) == math.ceil(form.window[0] * 2 / 3)


OF_RC2L = [name for name in RECIPES if "_rc2l" in name]


@pytest.mark.parametrize("name", RECIPES)
def test_cityscapes_is_scored_in_windows_with_hard_pixels_and_voc_whole(name):
    recipe = PARAMS.recipes[name]
    city = name.startswith("cityscapes")
    windows = city and name not in OF_RC2L  # MaskFormer sees the whole image
    assert recipe.eval.protocol.mode == ("sliding" if windows else "whole")
    assert recipe.supervised_loss == ("ohem" if city else "ce")


@pytest.mark.parametrize(
    ("name", "crop", "steps"),
    [("voc_rc2l_train", 512, 120_000), ("voc_rc2l_aug", 512, 160_000), ("cityscapes_rc2l", 768, 120_000)],
)
@pytest.mark.parametrize(("weights", "start"), [("", "imagenet"), ("_coco", "maskformer:")])
def test_recipes_of_rc2l_have_the_numbers_of_the_paper(name, crop, steps, weights, start):
    recipe = PARAMS.recipes[f"{name}{weights}"]
    optimiser = recipe.optimiser
    assert (recipe.crop, recipe.steps) == ((crop, crop), steps)
    assert (recipe.net.backbone, recipe.net.region.queries) == ("resnet101", 50)
    assert (optimiser.name, optimiser.weight_decay, optimiser.power) == ("adamw", 1e-4, 0.9)
    assert optimiser.lr * optimiser.head_lr == pytest.approx(1e-4)
    assert recipe.batch.labelled + recipe.batch.unlabelled == 16
    assert (recipe.eval.scales, recipe.eval.flip) == ([1.0], False)
    assert recipe.net.weights.startswith(start)


@pytest.mark.parametrize(
    ("name", "crop", "images", "pool", "labels", "epochs"),
    [("voc", 518, 16, 10582, 92, 60), ("cityscapes", 798, 8, 2975, 186, 180), ("ade20k", 518, 8, 20210, 316, 60),
     ("coco_instances", 518, 16, 118287, 232, 20)],
)  # fmt: skip
def test_recipes_of_unimatch_v2_have_the_numbers_of_its_files(name, crop, images, pool, labels, epochs):
    recipe = PARAMS.recipes[f"{name}_unimatch_v2"]
    optimiser = recipe.optimiser
    assert (recipe.crop, recipe.batch.labelled, recipe.batch.unlabelled) == ((crop, crop), images, images)
    assert recipe.steps == pytest.approx(epochs * (pool - labels) // images, rel=0.002)
    assert (optimiser.name, optimiser.lr, optimiser.head_lr) == ("adamw", 5e-6, 40)
    assert (optimiser.weight_decay, optimiser.clip, optimiser.power) == (0.01, 0, 0.9)
    assert "dinov2" in recipe.net.backbone
