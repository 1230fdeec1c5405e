"""Runs and evidence that the tests of this room share."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_data import GRID, SUPERVISED, params, reseal, write_grid, write_run

from rc2l_bench.report.quotes import Library


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished run with a test part, and weights."""
    folder = write_run(tmp_path / "runs", test=True)
    (folder / "model.safetensors").write_bytes(b"w" * 5000)
    reseal(folder)
    return folder


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Evidence of three grids, one of which has two data sets; to be read only."""
    root = tmp_path_factory.mktemp("evidence")
    write_grid(root / "shapes", GRID.grid, panels=0)
    write_grid(
        root / "small",
        params(method=[SUPERVISED, "baselines/supervised_region"], split=["1_8"], seed=[0]).grid,
        panels=0,
    )
    for dataset in ("camvid", "voc"):
        write_run(root / "mixed", dataset=dataset, panels=0)
    return Library(root, params())
