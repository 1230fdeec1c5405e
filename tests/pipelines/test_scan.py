"""The stage `scan`: a change in the folders of a user reaches every number, by DVC and by `rc2l-bench run`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_data
from folder_data import labels, pixels, png, write_images

from pipelines.scan import main
from rc2l_bench.data import catalog
from rc2l_bench.run.pipeline import carry_out_cells

CELL = {"dataset": "mine", "split": "1_2", "method": "baselines/supervised", "seed": "0"}
YAML = "images: photos\nmasks: masks\nclasses: [a, b, c]\nlists: {val: val.txt}\n"
DVC = [sys.executable, "-m", "dvc"]


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """Ten images of a user in a checkout whose grid is a cell of them."""
    monkeypatch.chdir(tmp_path)
    for name in ("baselines", "pipelines", "rc2l_bench"):
        shutil.copytree(tiny_data.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(tiny_data.ROOT / "dvc.yaml", tmp_path)
    (tmp_path / ".dvcignore").write_text("__pycache__/\n")
    grid = {key: [int(value) if key == "seed" else value] for key, value in CELL.items()}
    short = {"steps": 2, "eval": {"evaluations": 1}, "batch": {"labelled": 2, "unlabelled": 2}}
    tiny_data.write_yaml(tmp_path / "params.yaml", tiny_data.params(grid=grid, protocol={"default": short}))
    write_images(tmp_path)
    (tmp_path / "datasets/mine.yaml").write_text(YAML)
    (tmp_path / "val.txt").write_text("p0\np1\n")
    return tmp_path


def listing(out: str = "data/scan/mine.txt") -> str:
    main("mine", out)
    return Path(out).read_text()


def test_images_masks_and_lists_are_listed_with_size_and_time(checkout):
    state = (checkout / "masks/p3.png").stat()
    lines = listing().splitlines()
    names = {line.split("\t")[-1] for line in lines[1:]}
    assert len(names) == 10 + 10 + 2
    assert {"'val.txt'", "'datasets/mine.yaml'", "'photos/p9.png'"} < names
    assert f"{state.st_size}\t{state.st_mtime_ns}\t'masks/p3.png'" in lines


def test_a_list_of_unchanged_files_is_not_touched(checkout):
    listing()
    before = Path("data/scan/mine.txt").stat().st_mtime_ns
    listing()
    assert Path("data/scan/mine.txt").stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["new", "gone", "other", "list", "yaml", "touched"])
def test_every_change_of_the_users_files_changes_the_list(checkout, change):
    before = listing()
    if change == "new":
        for folder in ("photos", "masks"):
            shutil.copy(checkout / folder / "p3.png", checkout / folder / "p10.png")
    elif change == "gone":
        (checkout / "photos/p3.png").unlink()
        (checkout / "masks/p3.png").unlink()
    elif change == "other":
        (checkout / "masks/p3.png").write_bytes(png(labels(50)))
    elif change == "yaml":
        (checkout / "datasets/mine.yaml").write_text(YAML + "rare_classes: [c]\n")
    elif change == "list":
        (checkout / "val.txt").write_text("p0\np2\n")
    else:
        os.utime(checkout / "photos/p3.png", (1, 1))
    assert listing() != before


def test_a_data_set_that_is_fetched_has_no_files_of_the_user(checkout):
    main("shapes", "data/scan/shapes.txt")
    assert len(Path("data/scan/shapes.txt").read_text().splitlines()) == 1


def test_it_starts_without_what_takes_long_to_import():
    code = "import sys, pipelines.scan; sys.exit(bool({'typer', 'pydantic', 'numpy', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=tiny_data.ROOT, check=False).returncode == 0


def enlarge(root: Path) -> None:
    """Twelve more images, and a corrected mask of the validation part."""
    for index in range(10, 22):
        (root / "photos" / f"p{index}.png").write_bytes(png(pixels(index)))
        (root / "masks" / f"p{index}.png").write_bytes(png(labels(index)))
    (root / "masks/p1.png").write_bytes(png(labels(99)))


def repro(root: Path, *targets: str) -> str:
    command = [*DVC, "repro", *targets]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_dvc_repro_notices_files_that_it_was_never_told_of(checkout):
    subprocess.run([*DVC, "init", "--no-scm", "-q"], cwd=checkout, check=True)
    repro(checkout, "catalog@mine")
    before = catalog.read(Path("data/catalog/mine.csv"))
    lock = Path("dvc.lock").read_bytes()
    quiet = repro(checkout, "catalog@mine")
    assert "Running stage 'fetch" not in quiet
    assert Path("dvc.lock").read_bytes() == lock
    enlarge(checkout)
    loud = repro(checkout, "catalog@mine")
    assert "Running stage 'fetch@mine'" in loud
    after = catalog.read(Path("data/catalog/mine.csv"))
    assert (len(before.rows), len(after.rows)) == (10, 22)
    assert before.of("val")[1].pixels != after.of("val")[1].pixels


@pytest.mark.slow
def test_the_same_run_gives_a_new_number_for_new_files(checkout):
    result = checkout / "runs/mine/1_2/baselines/supervised/seed0"
    assert carry_out_cells([CELL], 1) == [0]
    first = json.loads((result / "run.json").read_text())
    assert carry_out_cells([CELL], 1) == []
    enlarge(checkout)
    assert carry_out_cells([CELL], 1) == [0]
    second = json.loads((result / "run.json").read_text())
    assert (first["split"]["labelled"], second["split"]["labelled"]) == (4, 10)
    assert first["shards"]["val"] != second["shards"]["val"]
    assert first["fingerprint"] != second["fingerprint"]
