"""Finished runs that the tests of this room share; to be read only."""

from __future__ import annotations

from pathlib import Path

import pytest
import run_data
import tiny_data
from commands_data import call


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which some cells are trained."""
    root = tmp_path_factory.mktemp("trained")
    tiny_data.write_checkout(root)
    return root


@pytest.fixture(scope="session")
def pixel_run(trained: Path) -> Path:
    """A result with a PixelNet."""
    return run_data.train(trained, "baselines/supervised")


@pytest.fixture(scope="session")
def region_run(trained: Path) -> Path:
    """A result with a RegionNet, of a method of the package."""
    return run_data.train(trained, "rc2l_bench/methods/rc2l")


@pytest.fixture(scope="session")
def ensemble_run(trained: Path) -> Path:
    """A result whose method makes the prediction by code of its own."""
    return run_data.train(trained, "baselines/cps@ensemble")


@pytest.fixture(scope="session")
def exported_regions(tmp_path_factory: pytest.TempPathFactory, region_run: Path) -> Path:
    """Where a region network was exported by the command."""
    out = tmp_path_factory.mktemp("export")
    code, text = call("export", str(region_run), "--format", "onnx", "--out", str(out / "regions.onnx"))
    assert code == 0, text
    assert text.split() == [str(out / f"regions.onnx{suffix}") for suffix in ("", ".json", ".md")]
    return out
