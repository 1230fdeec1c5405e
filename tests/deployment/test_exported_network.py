"""A network as a file, against the network that it was made of."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_data
import torch
from tiny_data import pictures
from torch import nn

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
from rc2l_bench.errors import BenchError
from rc2l_bench.run.evaluate import predict_logits

SIZES = [(1, 33, 47), (3, 71, 50)]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_onnx_sees_what_a_region_network_sees(exported_regions, region_run, size):
    run, images = load_run(region_run, "cpu"), pictures(*size)
    logits, classes = open_onnx((exported_regions / "regions.onnx").read_bytes())(images)
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


def test_a_file_that_gives_something_else_is_not_written(pixel_run):
    run = load_run(pixel_run, "cpu")
    network = ExportedNetwork(run.network, run.protocol)

    def other(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, classes = network(torch.from_numpy(images[:, ::-1].copy()))
        return logits.numpy(), classes.numpy()

    with pytest.raises(BenchError, match=r"probabilities that differ by .*: it was not written"):
        compare(network, other, [(33, 47)])
