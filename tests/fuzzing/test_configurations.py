"""Typed configurations: whatever is written is taken or refused in one line, and what is taken can be carried out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_data
import torch
from fuzz_strategies import CASES, bounded_memory, changed, documents, one_line_or_none
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rc2l_bench.cluster import ClusterConfig
from rc2l_bench.config import FurtherScores, Grid, Params, Protocol, Runtime, SplitConfig, Views, load
from rc2l_bench.data.augment import Augmenter
from rc2l_bench.data.datasets.folder_config import FolderConfig
from rc2l_bench.data.geometry import cut
from rc2l_bench.data.split_lists import Published
from rc2l_bench.errors import BenchError
from rc2l_bench.methods.contract import Method, build, check_config, load_class, load_config
from rc2l_bench.run.evaluate import Evaluation, Images, evaluate
from rc2l_bench.run.hardware import open_fabric
from rc2l_bench.run.train import Feed, Trainer
from rc2l_bench.schema import Model
from rc2l_bench.tuning import Tuned
from rc2l_bench.types import Batch
from rc2l_bench.variants import find_methods, read_config

pytestmark = pytest.mark.slow
MODELS = {model.__name__: model for model in
          (Protocol, Runtime, Grid, SplitConfig, Views, FolderConfig, Published, Tuned, FurtherScores,
           ClusterConfig)}  # fmt: skip
PLAIN = {"Protocol": tiny_data.PROTOCOL, "Runtime": tiny_data.RUNTIME, "Views": tiny_data.VIEWS}
METHODS = find_methods(tiny_data.ROOT)
SMALL: dict[str, Any] = {
    "net": {"backbone": "test_resnet", "weights": "none", "pixel": {"width": 8, "low_width": 4},
            "region": {"queries": 4, "dim": 8, "layers": 1, "heads": 2, "feedforward": 8}},
    "batch": {"labelled": 2, "unlabelled": 2}, "image_scale": 1.0, "crop": [32, 40], "weak": {"scale": [0.5, 2.0]},
    "strong": {"sigma": [0.1, 2.0]}, "eval": {"scales": [1.0], "batch": 2, "evaluations": 1}, "steps": 2,
}  # fmt: skip
"""What would only take long or fill the memory; everything else is drawn, up to its bounds."""
TRAINED = ("baselines/supervised", "baselines/unimatch", "rc2l_bench/methods/rc2l")


@pytest.fixture(scope="module", autouse=True)
def _memory() -> Iterator[None]:
    with bounded_memory(1024):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML


def check(path: Path, model: type[Model], document: Any) -> None:
    write(path, document)
    with one_line_or_none(path.name):
        assert isinstance(load(model, path), model)


@pytest.mark.parametrize("name", MODELS)
@CASES
@given(data=st.data())
def test_a_document_of_the_right_types_is_taken_or_refused_in_one_line(folder, name, data):
    check(folder / "x.yaml", MODELS[name], data.draw(documents(MODELS[name])))


@pytest.mark.parametrize("name", MODELS)
@CASES
@given(data=st.data())
def test_an_absurd_value_is_refused_in_one_line(folder, name, data):
    plain = PLAIN.get(name) or data.draw(documents(MODELS[name]))
    check(folder / "x.yaml", MODELS[name], data.draw(changed(plain)))


@CASES
@given(data=st.data(), method=st.sampled_from(METHODS))
def test_the_numbers_of_a_method_are_taken_or_refused_in_one_line(folder, data, method):
    model = load_class(method).Config
    check(folder / "x.yaml", model, data.draw(st.one_of(documents(model), changed(read_config(method)))))


@CASES
@given(data=st.data())
def test_absurd_params_are_refused_in_one_line(folder, data):
    check(folder / "params.yaml", Params, data.draw(changed(tiny_data.params(recipes={"x": {"base": "y"}, "y": {}}))))


def train(protocol: Protocol, method: str, config: Any) -> Evaluation:
    """Scores after two steps on images that the augmentation has made of noise."""
    runtime = Runtime.model_validate_json(json.dumps(tiny_data.RUNTIME))
    fabric = open_fabric(runtime)
    torch.manual_seed(0)
    made = build(method, check_config(method, config), protocol, 3)
    augmenter = Augmenter(protocol, load_config(method).views, 0, fabric.device)
    rng = np.random.default_rng(0)
    images, masks = rng.integers(0, 256, (2, 48, 56, 3), np.uint8), rng.integers(0, 3, (2, 48, 56), np.uint8)
    sizes = torch.tensor([[48, 56]] * 2)

    def augment(step: int, _: int) -> Batch:
        frames = {name: augmenter.geometry.frames(name, step, sizes) for name in ("labelled", "unlabelled")}
        labelled = [cut("x", *one) for one in zip(frames["labelled"], images, masks, strict=True)]
        unlabelled = [cut("x", frame, image, None) for frame, image in zip(frames["unlabelled"], images, strict=True)]
        return augmenter(labelled, unlabelled, step)

    def score(trained: Method) -> Evaluation:
        trained.eval()
        pictures = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        whole = [Images(ids=["a", "b"], image=pictures, label=torch.from_numpy(masks))]
        return evaluate(trained.predict, whole, protocol.eval, image_scale=protocol.image_scale, num_classes=3,
                        device=fabric.device)  # fmt: skip

    feed = Feed(batches=lambda start: iter(range(start, 10)), augment=augment, evaluate=score, watch=lambda _: None)
    try:
        return Trainer(fabric, made, protocol, runtime, 0).fit(feed, None)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("method", TRAINED)
@settings(CASES, max_examples=CASES.max_examples // 2, phases=[Phase.generate])  # shrinking takes many minutes
@given(data=st.data())
def test_what_is_taken_can_be_trained_with(folder, method, data):
    """Or ends in one line: a learning rate of a million diverges."""
    drawn = tiny_data.merged(data.draw(documents(Protocol)), SMALL)
    if drawn["eval"]["protocol"]["mode"] != "whole":
        drawn["eval"]["protocol"]["window"] = data.draw(st.sampled_from([[8, 8], [32, 48], [64, 64]]))
    if drawn["eval"]["protocol"]["mode"] == "sliding":
        drawn["eval"]["protocol"]["stride"] = data.draw(st.sampled_from([0.3, 2 / 3, 1]))
    drawn["net"]["pixel"]["rates"] = data.draw(st.sampled_from([[1, 2, 3], [512, 1, 64]]))
    write(folder / "x.yaml", drawn)
    with one_line_or_none(""):
        try:
            protocol = load(Protocol, folder / "x.yaml")
        except BenchError:
            return
        found = train(protocol, method, read_config(method))
        if protocol.eval.protocol.mode != "center_crop":
            assert found.confusion.sum() == 2 * 48 * 56  # every pixel is scored, once
