"""Exported files against the network that they were made of."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from commands_data import refused
from torch import Tensor, nn

from rc2l_bench.deployment.export import export_run, name_target
from rc2l_bench.deployment.loading import load_run
from rc2l_bench.errors import BenchError, UsageError


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


def test_a_name_of_another_format_is_wrong_use(pixel_run, tmp_path):
    assert "ends in .onnx" in refused("export", str(pixel_run), "--out", str(tmp_path / "x.pt2"))
    assert name_target("a-b", "torch", None) == Path("a-b.pt2")
    with pytest.raises(UsageError, match=r"ends in \.pt2"):
        name_target("a-b", "torch", Path("x.onnx"))
