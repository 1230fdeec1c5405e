"""The stages `fetch` and `catalog` on the user's own images."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from folder_data import labels, pixels, png, write_images

from rc2l_bench.data import catalog

ROOT = Path(__file__).parents[2]


def stage(cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", *args], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """Eight images of the user."""
    write_images(tmp_path, 8)
    yaml = "images: photos\nmasks: masks\nclasses: [a, b, c]\nshares: {val: 0.25, test: 0.0, seed: 3}\n"
    (tmp_path / "datasets" / "mine.yaml").write_text(yaml)
    return tmp_path


def test_the_stages_make_the_table_of_the_users_own_images(checkout):
    for _ in range(2):
        assert stage(checkout, "pipelines.fetch", "mine", "data/raw/mine").returncode == 0
        assert stage(checkout, "pipelines.catalog", "mine", "data/raw/mine", "data/catalog/mine.csv").returncode == 0
    with (checkout / "data/catalog/mine.csv").open() as file:
        assert next(csv.reader(file))[-3:] == ["b", "c", "ignored"]
    assert len(catalog.read(checkout / "data/catalog/mine.csv").ids("train")) == 6


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("masks/p3.png", png(np.full((12, 16), 7, np.uint8)), "masks/p3.png: label 7 at 192 pixels"),
        ("masks/p3.png", png(labels(3, height=13)), "masks/p3.png: the mask has 13×16 pixels, its image 12×16"),
        ("photos/p3.png", png(pixels(3))[:60], "photos/p3.png: the PNG is cut off"),
    ],
    ids=["label", "size", "truncated"],
)
def test_a_wrong_file_of_the_user_is_named_in_one_line_and_nothing_is_written(checkout, file, data, message):
    (checkout / file).write_bytes(data)
    done = stage(checkout, "pipelines.fetch", "mine", "data/raw/mine")
    if done.returncode == 0:
        done = stage(checkout, "pipelines.catalog", "mine", "data/raw/mine", "data/catalog/mine.csv")
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (checkout / "data/catalog").exists()


def test_the_stages_import_no_torch():
    code = "import pipelines.fetch, pipelines.catalog, rc2l_bench.cli.data, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
