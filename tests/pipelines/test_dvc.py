"""DVC itself, as a user calls it: `dvc repro`, `dvc exp run -S`, and what it reads in dvc.yaml."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import repository_data
import tiny_data
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides

from rc2l_bench.config import Params
from rc2l_bench.recipes import BASE, RECIPE
from rc2l_bench.run.pipeline import Stage, cell_stages
from rc2l_bench.schema import check, load, read_yaml
from rc2l_bench.variants import file_name_of, find_methods

ROOT = tiny_data.ROOT
FILES = [Path("params.yaml"), *(Path(f"{method}.yaml") for method in find_methods(ROOT))]


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Everything in nested mappings that is no mapping, with the way to it."""
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        yield from leaves(inner, (*path, key))


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return [*value, *value] if isinstance(value, list) else f"{value}x"


def changed(data: Any, path: tuple[str, ...], value: Any) -> Any:
    """A copy with another value in one place."""
    out = inner = copy.deepcopy(data)
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return out


def comments(file: Path) -> list[str]:
    return re.findall(r"(?<=# ).*$", file.read_text(encoding="utf-8"), re.MULTILINE)


CASES = [
    pytest.param(file, path, value, id=f"{file.stem}:{'.'.join(path)}")
    for file in FILES
    for path, value in leaves(read_yaml(ROOT / file))
]


@pytest.mark.parametrize(("file", "path", "value"), CASES)
def test_an_override_of_dvc_changes_one_leaf_and_loses_no_comment(tmp_path, file, path, value):
    copied = tmp_path / "x.yaml"
    shutil.copy(ROOT / file, copied)
    apply_overrides(copied, [f"{'.'.join(path)}={json.dumps(other(value))}"])
    assert read_yaml(copied) == changed(read_yaml(ROOT / file), path, other(value))
    assert comments(copied) == comments(ROOT / file)


BUDGETS = [path for path, _ in leaves(read_yaml(ROOT / "params.yaml")) if path[0] != "grid" and path[-1] == "steps"]


@pytest.mark.parametrize("path", BUDGETS, ids=".".join)
def test_an_overridden_budget_reaches_the_protocol(path):
    data = changed(read_yaml(ROOT / "params.yaml"), path, 12)
    params = check(Params, data, Path("params.yaml"))
    assert getattr(params, path[0])[path[1]].steps == 12


def test_params_have_no_aliases():
    """What shares a mapping by an alias loses the overrides of DVC."""
    assert not re.search(r"[\[{:,-]\s*[&*]\w", (ROOT / "params.yaml").read_text(encoding="utf-8"))


def test_every_recipe_and_protocol_says_where_it_starts():
    data = read_yaml(ROOT / "params.yaml")
    keys = {key for key, names in ((BASE, data["recipes"]), (RECIPE, data["protocol"])) for one in names.values()
            if (key in one)}  # fmt: skip
    assert keys == {BASE, RECIPE}


def cells(root: Path) -> list[dict[str, str]]:
    grid = load(Params, root / "params.yaml").grid
    return [dict(zip(("dataset", "split", "method", "seed"), map(str, cell), strict=True))
            for cell in product(grid.dataset, grid.split, grid.method, grid.seed)]  # fmt: skip


def seen_by_dvc(stage: Any, root: Path) -> tuple[str, set[str], set[str], set[str]]:
    """Command, dependencies, parameters and outs of a stage as DVC reads dvc.yaml."""
    params = [dep for dep in stage.deps if hasattr(dep, "params")]
    names = {name for dep in params for name in dep.params}
    deps = {Path(dep.fs_path).relative_to(root).as_posix() for dep in stage.deps if dep not in params}
    outs = {Path(out.fs_path).relative_to(root).as_posix() for out in stage.outs}
    return stage.cmd, deps, names, outs


def seen_by_us(stage: Stage) -> tuple[str, set[str], set[str], set[str]]:
    deps, outs = ({path.as_posix() for path in paths} for paths in (stage.deps, stage.outs))
    return " ".join(["python", *stage.command[1:]]), deps, set(stage.params), outs


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A repository with the files of this one, on which nothing has run yet."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("baselines", "pipelines", "rc2l_bench", "splits", "datasets", "tuned"):
        shutil.copytree(ROOT / name, root / name, ignore=repository_data.IGNORED)
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, root)
    repository_data.call(root, "dvc", "init", "-q", "--no-scm")
    return root


def test_both_readers_of_dvc_yaml_see_the_same_stages(checkout):
    """DVC, and `rc2l-bench run`, which fills in the same templates for one cell."""
    dvc = {stage.cmd: seen_by_dvc(stage, checkout) for stage in Repo(str(checkout)).index.stages}
    ours = [stage for cell in cells(checkout) for stage in cell_stages(cell, checkout)]
    for stage in ours:
        assert seen_by_us(stage) == dvc[seen_by_us(stage)[0]]
    assert {seen_by_us(stage)[0] for stage in ours} == {cmd for cmd in dvc if "pipelines.report" not in cmd}


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A repository whose grid has been carried out by `dvc repro`: own data, a method and a variant."""
    root = tmp_path_factory.mktemp("repository")
    repository_data.write_checkout(root, grid={"method": ["baselines/supervised", "baselines/cps+plain"]})
    repository_data.open_repository(root)
    repository_data.call(root, "dvc", "repro")
    return root


def result(root: Path, method: str) -> dict[str, Any]:
    folder = root / "runs/blobs/1_2" / file_name_of(method) / "seed0"
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("metrics", "run")}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["baselines/supervised", "baselines/cps@plain"])
def test_repro_carries_out_own_data_and_variants(repository, method):
    found = result(repository, method)
    assert found["metrics"]["miou"] is not None
    assert found["run"]["protocol"]["steps"] == 4


@pytest.mark.slow
def test_repro_and_run_share_a_result(repository):
    """Own data have no protocol of their own: both ways take `default`, and so the same fingerprint."""
    before = result(repository, "baselines/supervised")["run"]["fingerprint"]
    command = "rc2l-bench run --dataset blobs --split 1_2 --method supervised"
    done = repository_data.call(repository, *command.split())
    assert "step 4/4" not in done.stdout + done.stderr
    assert result(repository, "baselines/supervised")["run"]["fingerprint"] == before


@pytest.mark.slow
def test_repro_with_nothing_to_do_only_looks_at_the_users_files(repository):
    ran = re.findall(r"Running stage '([^']+)'", repository_data.call(repository, "dvc", "repro").stdout)
    assert ran == ["pipelines/dvc.yaml:scan@blobs"]


@pytest.mark.slow
def test_an_override_of_an_experiment_is_trained(tmp_path, repository):
    root = tmp_path / "copy"
    shutil.copytree(repository, root, symlinks=True)
    repository_data.call(
        root, "dvc", "exp", "run", "-S", "protocol.default.steps=6", "-S", "baselines/cps.yaml:warm_up=0.5"
    )
    assert result(root, "baselines/supervised")["run"]["protocol"]["steps"] == 6
    assert result(root, "baselines/cps@plain")["run"]["method_config"]["warm_up"] == 0.5


@pytest.mark.slow
def test_a_stage_that_fails_keeps_the_result_of_before(tmp_path, repository):
    root = tmp_path / "copy"
    shutil.copytree(repository, root, symlinks=True)
    before = result(root, "baselines/supervised")
    (root / "baselines/supervised.py").write_text("raise SystemExit(1)\n")
    assert repository_data.call(root, "dvc", "repro", check=False).returncode != 0
    assert result(root, "baselines/supervised") == before
