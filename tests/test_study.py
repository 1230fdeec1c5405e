"""A study outside of a checkout: what it is made of, and that everything works there with the built wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import repository_data
import tiny_data

from rc2l_bench import study
from rc2l_bench.recipes import overlay
from rc2l_bench.run.pipeline import FILES, cell_stages
from rc2l_bench.schema import read_yaml

ROOT = tiny_data.ROOT
CELL = {"dataset": "shapes", "split": "1_16", "method": "baselines/supervised", "seed": "0"}


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory) -> Path:
    """A study from this checkout, without DVC's own files."""
    folder = tmp_path_factory.mktemp("studies") / "one"
    study.lay_out(folder)
    return folder


def test_a_study_has_the_files_of_the_checkout(laid_out):
    names = [name for name in study.carried_names() if not name.startswith(".dvc/")]
    files = {file for name in names for file in [ROOT / name, *(ROOT / name).rglob("*")] if file.is_file()}
    files = {file.relative_to(ROOT) for file in files if "__pycache__" not in file.parts}
    assert {file.relative_to(laid_out) for file in laid_out.rglob("*") if file.is_file()} == files
    for file in files - set(FILES):
        assert (laid_out / file).read_bytes() == (ROOT / file).read_bytes()


def test_the_image_for_clusters_is_given_what_the_wheel_is_made_of():
    # No test builds the image, which takes minutes and a registry.
    recipe = (ROOT / "apptainer.def").read_text().split("%files\n")[1].split("\n\n")[0]
    copied = dict(line.split() for line in recipe.splitlines())
    assert all(target == f"/opt/rc2l-bench/{source}" for source, target in copied.items())
    wheel = ["pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "rc2l_bench", *study.carried_names()]
    assert [name for name in wheel if not {name, *map(str, Path(name).parents)} & copied.keys()] == []


def test_the_stages_of_a_study_depend_on_nothing_that_is_not_in_it(laid_out):
    stages = [stage for file in FILES for stage in read_yaml(laid_out / file)["stages"].values()]
    made = [next(iter(out)) if isinstance(out, dict) else out for stage in stages for out in stage["outs"]]
    deps = {dep for stage in stages for dep in stage["deps"] if not (laid_out / dep).exists()}
    assert {dep for dep in deps if not any(f"{out}/".startswith(f"{dep}/") for out in made)} == set()


def test_but_for_the_package_stages_are_those_of_the_checkout(laid_out):
    own, ours = cell_stages(CELL, laid_out), cell_stages(CELL, ROOT)
    scan = Path("data/scan/shapes.txt")
    for one, other in zip(own, ours, strict=True):
        assert (one.command, one.outs, one.params) == (other.command, other.outs, other.params)
        plain = [dep for dep in other.deps if dep.parts[0] != "rc2l_bench"]
        assert [dep for dep in one.deps if dep != scan] == [dep for dep in plain if dep != scan]
        assert (scan in one.deps) == (scan in plain or plain != other.deps)


def test_comments_of_the_stages_stay(laid_out):
    lines = (laid_out / "dvc.yaml").read_text().splitlines()
    assert [line for line in (ROOT / "dvc.yaml").read_text().splitlines() if line.startswith("#")] == [
        line for line in lines if line.startswith("#")
    ]


def test_another_package_is_noticed_by_the_scan(laid_out, monkeypatch):
    from pipelines.scan import main

    monkeypatch.chdir(laid_out)
    main("shapes", "data/scan/shapes.txt")
    before = Path("data/scan/shapes.txt").read_text()
    assert f"# rc2l_bench {study.name_package()}\n" in before
    monkeypatch.setattr("rc2l_bench.data.datasets.registry.name_package", lambda: "1" * 64)
    main("shapes", "data/scan/shapes.txt")
    assert Path("data/scan/shapes.txt").read_text() == before.replace(study.name_package(), "1" * 64)
    shutil.rmtree("data")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The built wheel."""
    out = tmp_path_factory.mktemp("wheel")
    command = ["pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(out), str(ROOT)]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.iterdir())


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory) -> Path:
    """Programs of a fresh environment with the wheel; other packages come from this one, the checkout does not."""
    root = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    site = next(root.glob("lib*/python*/site-packages"))
    (site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    # What is installed may be this very version, as a wheel: in a container.
    options = ["-q", "--no-deps", "--no-index", "--ignore-installed", "--disable-pip-version-check"]
    python = root / "bin/python"
    subprocess.run([sys.executable, "-m", "pip", "-q", "--python", python, "install", *options, wheel], check=True)
    return root / "bin"


@pytest.mark.slow
def test_the_wheel_carries_every_file_of_a_study(wheel):
    inside = {name.removeprefix("rc2l_bench/study_files/") for name in zipfile.ZipFile(wheel).namelist()}
    files = {file for name in study.carried_names() for file in [ROOT / name, *(ROOT / name).rglob("*")]}
    names = {file.relative_to(ROOT).as_posix() for file in files if file.is_file() and "__pycache__" not in file.parts}
    assert names - inside == set()


@pytest.mark.slow
def test_a_rival_of_ones_own_is_trained_in_a_study_from_the_wheel(programs, tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"PATH": f"{programs}{os.pathsep}{env['PATH']}", "DVC_NO_ANALYTICS": "1"}

    def run(*command: str, cwd: Path) -> str:
        done = subprocess.run(
            [str(programs / "rc2l-bench"), *command], cwd=cwd, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("init", "study", cwd=tmp_path)
    root = tmp_path / "study"
    repository_data.write_photos(root)
    short = {"protocol": {"default": {"steps": 10, "eval": {"evaluations": 1}}}}
    tiny_data.write_yaml(root / "params.yaml", overlay(tiny_data.params(), short))
    for suffix in ("py", "yaml"):
        shutil.copy(root / f"baselines/supervised.{suffix}", root / f"baselines/mine.{suffix}")
    text = run("run", "--dataset", "blobs", "--split", "1_2", "--method", "mine", cwd=root)
    folder = root / "runs/blobs/1_2/baselines/mine/seed0"
    assert "blobs 1_2 mine seed 0" in text
    assert json.loads((folder / "cost.json").read_text())["steps"] == 10
    assert (folder / "model.safetensors").is_file()
