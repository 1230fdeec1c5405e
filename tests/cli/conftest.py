"""Checkouts that the tests of this room share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny_data
from report_data import CPS, SUPERVISED, params, write_grid


@pytest.fixture
def runs_checkout(tmp_path, monkeypatch) -> Path:
    """A checkout with four finished runs and two documents."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(tiny_data.ROOT / name, tmp_path)
    shutil.copytree(tiny_data.ROOT / "reports/templates", tmp_path / "reports/templates")
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("No marker.\n")
    (tmp_path / "docs/A.md").write_text("None here.\n")
    write_grid(tmp_path / "runs", params(method=[SUPERVISED, CPS], split=["1_16"], seed=[0, 1]).grid, panels=0)
    monkeypatch.chdir(tmp_path)
    return tmp_path
