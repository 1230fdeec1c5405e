"""Exported files against the network that they were made of."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tiny_data
import torch
from commands_data import call, refused
from huggingface_hub import ModelCard
from torch import Tensor, nn

from rc2l_bench.deployment.export import export_run, place_of
from rc2l_bench.deployment.exported_network import (
    ExportedNetwork,
    compare,
    least_size,
    open_onnx,
    open_torch,
    scaled,
    trace,
    write_onnx,
    write_torch,
)
from rc2l_bench.deployment.loading import load_run
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.run.evaluate import predict_logits

SIZES = [(1, 33, 47), (3, 71, 50)]


def pictures(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, region_run) -> Path:
    """Where a region network was exported by the command."""
    out = tmp_path_factory.mktemp("export")
    code, text = call("export", str(region_run), "--format", "onnx", "--out", str(out / "regions.onnx"))
    assert code == 0, text
    assert text.split() == [str(out / f"regions.onnx{suffix}") for suffix in ("", ".json", ".md")]
    return out


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_onnx_sees_what_a_region_network_sees(folder, region_run, size):
    run, images = load_run(region_run, "cpu"), pictures(*size)
    logits, classes = open_onnx((folder / "regions.onnx").read_bytes())(images)
    expected = run.logits(images)
    assert np.abs(logits - expected.numpy()).max() <= 1e-4
    assert (classes == expected.max(1).indices.numpy()).mean() > 0.999


@pytest.fixture(scope="module")
def files(pixel_run) -> dict[str, bytes]:
    """A pixel network in both formats."""
    run = load_run(pixel_run, "cpu")
    program = trace(ExportedNetwork(run.network, run.protocol), least_size(run.protocol))
    return {"onnx": write_onnx(program), "torch": write_torch(program)}


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kind", "opened"), [("onnx", open_onnx), ("torch", open_torch)])
def test_both_formats_see_what_a_pixel_network_sees(files, pixel_run, kind, opened, size):
    run, images = load_run(pixel_run, "cpu"), pictures(*size)
    logits, classes = opened(files[kind])(images)
    expected = run.logits(images)
    assert np.abs(logits - expected.numpy()).max() <= 1e-4
    assert (classes == logits.argmax(1)).all()


@pytest.mark.slow
def test_the_json_says_how_to_use_the_file_and_what_it_scored(folder, region_run):
    facts = json.loads((folder / "regions.onnx.json").read_text())
    run = load_run(region_run)
    metrics = json.loads((region_run / "metrics.json").read_text())
    assert facts["sha256"] == hashlib.sha256((folder / "regions.onnx").read_bytes()).hexdigest()
    assert facts["classes"] == run.classes
    assert facts["palette"] == [[0, 0, 0], [255, 0, 0], [0, 0, 255]]
    assert facts["fingerprint"] == run.record["fingerprint"]
    assert facts["input"]["shape"] == ["batch", "height", "width", 3]
    assert facts["evaluation"]["one_pass_is_as_scored"]
    score = facts["scores"]["val"]
    assert score["miou"] == metrics["miou"]
    assert score["interval"][0] < score["miou"] < score["interval"][1]
    assert (score["over"], score["images"]) == ("images", 5)
    assert "not known" in facts["licence_of_the_data"]
    assert facts["compared_with_the_network"]["largest_difference"] <= 1e-4


@pytest.mark.slow
def test_a_hub_reads_the_card(folder, region_run):
    card = ModelCard((folder / "regions.onnx.md").read_text())
    metrics = json.loads((region_run / "metrics.json").read_text())
    assert (card.data.license, card.data.pipeline_tag, card.data.library_name) == (
        "other",
        "image-segmentation",
        "onnx",
    )
    found = {(result.dataset_split, result.metric_type): result.metric_value for result in card.data.eval_results}
    assert found == {("val", "mean_iou"): metrics["miou"], ("test", "mean_iou"): metrics["test"]["miou"]}
    assert "rc2l_bench/methods/rc2l" in card.text
    assert f"Fingerprint `{load_run(region_run).record['fingerprint']}`" in card.text


@pytest.mark.slow
def test_the_three_lines_of_the_card_run(folder, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(folder)
    Image.fromarray(pictures(1, 40, 48)[0]).save("photo.jpg", quality=95)
    code = (folder / "regions.onnx.md").read_text().split("```python\n")[1].split("```")[0]
    place: dict = {}
    assert len(code.strip().splitlines()) == 3
    exec(code, place)
    assert place["classes"].shape == (40, 48)


HALF = tiny_data.protocol(image_scale=0.5)
SCALED = tiny_data.protocol(image_scale=0.5, eval={"scales": [0.75, 1.0], "flip": True})


@pytest.mark.parametrize("protocol", [tiny_data.protocol(), HALF, SCALED])
def test_before_it_is_traced_a_network_sees_what_the_evaluation_sees(protocol):
    images = torch.from_numpy(pictures(2, 43, 50))
    network = nn.Conv2d(3, 3, 3, padding=1)
    found, classes = ExportedNetwork(network, protocol)(images)
    pixels, cpu = images.permute(0, 3, 1, 2), torch.device("cpu")
    assert torch.equal(found, predict_logits(network, pixels, protocol.eval, protocol.image_scale, cpu))
    assert torch.equal(classes.long(), found.max(1).indices)


@pytest.mark.slow
@pytest.mark.parametrize(("write", "opened"), [(write_onnx, open_onnx), (write_torch, open_torch)])
def test_the_scale_of_the_images_is_inside(write, opened):
    network, least = ExportedNetwork(nn.Conv2d(3, 3, 3, padding=1), HALF), least_size(HALF)
    assert compare(network, opened(write(trace(network, least))), [(least, 71), (64, 65)]) <= 1e-5


@pytest.mark.parametrize("scale", [0.1, 0.375, 0.5, 0.75, 1.25, 1.75])
def test_lengths_are_rounded_as_in_the_evaluation(scale):
    assert [scaled(length, scale) for length in range(1, 2000)] == [round(length * scale) for length in range(1, 2000)]


class Twisted(nn.Module):
    """A network with an operator that ONNX does not have."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.ops.rc2l_test.twist(image)


@pytest.fixture
def twisted(pixel_run):
    with torch.library._scoped_library("rc2l_test", "FRAGMENT") as library:
        library.define("twist(Tensor x) -> Tensor")
        library.impl("twist", lambda x: x.flip(-1), "CompositeExplicitAutograd")
        yield dataclasses.replace(load_run(pixel_run, "cpu"), network=Twisted())


def test_a_missing_operator_is_one_line_and_leaves_nothing(twisted, tmp_path):
    with pytest.raises(BenchError, match=r"ONNX has no operator for rc2l_test\.twist: try --format torch") as caught:
        export_run(twisted, "onnx", tmp_path / "x.onnx")
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


class Judging(nn.Module):
    """A network whose code depends on values."""

    def forward(self, image: Tensor) -> Tensor:
        return image if image.mean() > 0.5 else -image


def test_a_network_that_is_no_graph_is_one_line(pixel_run, tmp_path):
    run = dataclasses.replace(load_run(pixel_run, "cpu"), network=Judging())
    with pytest.raises(BenchError, match=r"^this network cannot be exported \(torch\): ") as caught:
        export_run(run, "torch", tmp_path / "x.pt2")
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_gives_something_else_is_not_written(pixel_run):
    run = load_run(pixel_run, "cpu")
    network = ExportedNetwork(run.network, run.protocol)

    def other(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, classes = network(torch.from_numpy(images[:, ::-1].copy()))
        return logits.numpy(), classes.numpy()

    with pytest.raises(BenchError, match=r"probabilities that differ by .*: it was not written"):
        compare(network, other, [(33, 47)])


def test_a_name_of_another_format_is_wrong_use(pixel_run, tmp_path):
    assert "ends in .onnx" in refused("export", str(pixel_run), "--out", str(tmp_path / "x.pt2"))
    assert place_of("a-b", "torch", None) == Path("a-b.pt2")
    with pytest.raises(UsageError, match=r"ends in \.pt2"):
        place_of("a-b", "torch", Path("x.onnx"))
