"""Finished runs that the tests of this room share; to be read only."""

from __future__ import annotations

from pathlib import Path

import pytest
import run_data
import tiny_data


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
