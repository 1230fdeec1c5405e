from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest
import tiny_data

from rc2l_bench.config import Params, load
from rc2l_bench.methods.contract import MethodConfig, load_config
from rc2l_bench.run.pipeline import FILES, cell_stages
from rc2l_bench.schema import read_yaml
from rc2l_bench.sources import QUIET, imported, module_file, sources
from rc2l_bench.variants import find_methods

ROOT = tiny_data.ROOT
CODE = sorted(file for name in ("rc2l_bench", "baselines", "pipelines") for file in (ROOT / name).rglob("*.py"))
STAGES = sorted(file.stem for file in (ROOT / "pipelines").glob("[a-z]*.py"))
LINES, FUNCTION = 300, 60


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def train_deps(method: str) -> set[str]:
    """Source files that DVC watches for a training, those inside watched folders included."""
    item = {"dataset": "shapes", "split": "1_16", "method": method, "seed": "0"}
    deps = [ROOT / path for path in cell_stages(item, ROOT)[-1].deps]
    return {name_of(file) for dep in deps for file in (dep.rglob("*.py") if dep.is_dir() else [dep])
            if file.suffix == ".py"}  # fmt: skip


def closure(file: Path) -> set[str]:
    """Source files of the project that a file imports, and these, and so on, lazy imports included."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        for module in imported(waiting.pop()):
            inner = module_file(module)
            if inner is not None and inner not in found:
                found.add(inner)
                waiting.append(inner)
    return {name_of(inner) for inner in found}


def test_the_import_contracts_hold():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_the_import_contracts_can_break(tmp_path):
    """Twin of the test above."""
    (tmp_path / "low").mkdir()
    for name, text in (("__init__", ""), ("a", "from low import b\n"), ("b", "")):
        (tmp_path / f"low/{name}.py").write_text(text)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.importlinter]\nroot_packages = ["low"]\n[[tool.importlinter.contracts]]\nname = "down"\n'
        'type = "layers"\nlayers = ["low.b", "low.a"]\n'
    )
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as c; c()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout


def test_a_new_baseline_that_imports_another_breaks_the_contract(tmp_path):
    for name in ("rc2l_bench", "baselines", "pipelines"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "baselines/mine.py").write_text('"""Mine."""\n\nfrom baselines.cps import CPS as CPS\n')
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as c; c()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    assert "Methods do not know one another BROKEN" in done.stdout


def test_every_module_of_the_package_has_a_layer():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    named = {name for layer in contracts[0]["layers"] for name in layer.split(" | ")}
    inside = [
        path for path in (ROOT / "rc2l_bench").iterdir() if path.name not in ("__init__.py", "__pycache__", "py.typed")
    ]
    assert {f"rc2l_bench.{path.stem}" for path in inside} - named == set()


def test_the_init_of_a_room_is_a_docstring_and_nothing_else():
    for file in (ROOT / "rc2l_bench").rglob("*/__init__.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), file
        assert len(tree.body) == 1, file


def test_no_two_classes_have_one_name():
    files = [file for folder in ("rc2l_bench", "baselines") for file in (ROOT / folder).rglob("*.py")]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    names = [node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


@pytest.mark.parametrize("method", find_methods(ROOT))
def test_dvc_watches_every_module_that_makes_a_number(method):
    numbers = {name_of(file) for file in sources("rc2l_bench.run.runner", method.replace("/", ".")).values()}
    assert numbers - train_deps(method) == set()


def test_what_training_imports_either_makes_numbers_or_is_on_the_list():
    quiet = {name_of(file) for file in map(module_file, QUIET) if file}
    numbers = {name_of(file) for file in sources("rc2l_bench.run.runner", "baselines.supervised").values()}
    # What the quiet modules import on their own account.
    below = {f"rc2l_bench/data/{name}.py" for name in (
        "catalog", "contamination", "download", "fetch", "partial_files", "splits",
    )}  # fmt: skip
    assert closure(ROOT / "pipelines/train.py") - numbers - quiet - below == set()


def test_everything_on_the_list_of_quiet_modules_is_there():
    assert [module for module in QUIET if module_file(module) is None] == []


def test_every_stage_of_dvc_has_its_file_and_watches_it():
    stages = {name: spec for file in FILES for name, spec in read_yaml(ROOT / file)["stages"].items()}
    assert sorted(stages) == STAGES
    for name, stage in stages.items():
        assert stage["cmd"].startswith(f"python -m pipelines.{name} ")
        assert f"pipelines/{name}.py" in stage["deps"]


@pytest.mark.parametrize("stage", STAGES)
def test_importing_a_stage_loads_no_torch(stage):
    """Torch takes seconds, and a stage may find that there is nothing to do."""
    code = f"import sys, pipelines.{stage}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_cell_of_every_grid_can_be_loaded():
    params = load(Params, ROOT / "params.yaml")
    for grid in [params.grid, *params.grids.values()]:
        for dataset, method in product(grid.dataset, grid.method):
            assert params.protocol_of(dataset)
            assert isinstance(load_config(method), MethodConfig)
            assert method in find_methods(ROOT)


def test_every_method_of_the_checkout_has_its_two_files():
    for method in find_methods(ROOT):
        assert (ROOT / f"{method}.py").is_file(), method
        assert import_module(method.replace("/", ".")).__doc__, method


@pytest.mark.parametrize("file", CODE, ids=name_of)
def test_no_file_is_too_long(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LINES


@pytest.mark.parametrize("file", CODE, ids=name_of)
def test_no_function_is_too_long(file):
    long = [f"{node.name}: {node.end_lineno - node.lineno + 1}" for node in functions(file)
            if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > FUNCTION]  # fmt: skip
    assert long == []


def test_functions_are_short():
    lengths = sorted((node.end_lineno or 0) - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())
                     for file in CODE for node in functions(file))  # fmt: skip
    assert lengths[len(lengths) // 2] < 12


@pytest.mark.parametrize("file", CODE, ids=name_of)
def test_nothing_is_left_undone_in_a_file(file):
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", file.read_text(encoding="utf-8"))


def test_nothing_names_a_place_of_one_machine():
    texts = [*CODE, *ROOT.glob("*.yaml"), *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "Makefile"]
    named = [
        name_of(file) for file in texts if re.search(r"/(work|home|root|Users)/", file.read_text(encoding="utf-8"))
    ]
    assert named == []


def test_every_module_has_a_docstring():
    bare = [name_of(file) for file in CODE if file.read_text() and not ast.get_docstring(ast.parse(file.read_text()))]
    assert bare == []


def has_logic(file: Path) -> bool:
    """Whether a function of a module does something; declarations and abstract methods do not."""
    for node in functions(file):
        body = node.body[1:] if ast.get_docstring(node) else node.body
        if any(ast.unparse(statement) not in ("...", "pass") for statement in body):
            return True
    return False


def namesake(file: Path) -> Path:
    """Where the tests of a module are: in the room of its name."""
    package = ROOT / "rc2l_bench"
    inside = file.relative_to(package if file.is_relative_to(package) else ROOT)
    return ROOT / "tests" / inside.parent / f"test_{inside.stem.strip('_')}.py"


def has_tests(file: Path) -> bool:
    return file.is_file() and re.search(r"^def test_", file.read_text(encoding="utf-8"), re.MULTILINE) is not None


def test_every_module_with_logic_has_its_file_of_tests():
    assert [name_of(namesake(file)) for file in CODE if has_logic(file) and not has_tests(namesake(file))] == []


@pytest.mark.parametrize(("text", "logic"), [
    ("X = 1\nclass A:\n    x: int = 0\n    'Said.'\n", False),
    ("class A:\n    @abstractmethod\n    def f(self):\n        'Said.'\n    def g(self): ...\n", False),
    ("class A:\n    def f(self):\n        'Said.'\n        return 1\n", True),
    ("async def f():\n    await x\n", True),
])  # fmt: skip
def test_logic_is_told_from_declarations(tmp_path, text, logic):
    """Twin of the test above."""
    (tmp_path / "x.py").write_text(text)
    assert has_logic(tmp_path / "x.py") == logic


@pytest.mark.parametrize(("module", "tests"), [
    ("rc2l_bench/errors.py", "tests/test_errors.py"), ("rc2l_bench/data/hue.py", "tests/data/test_hue.py"),
    ("rc2l_bench/__init__.py", "tests/test_init.py"),
    ("rc2l_bench/data/datasets/voc.py", "tests/data/datasets/test_voc.py"),
    ("baselines/cps.py", "tests/baselines/test_cps.py"), ("pipelines/pool.py", "tests/pipelines/test_pool.py"),
])  # fmt: skip
def test_the_rooms_of_tests_are_those_of_the_code(module, tests):
    assert namesake(ROOT / module) == ROOT / tests


def test_methods_keep_to_their_contract():
    """A method never calls backward, an optimiser, `.cuda()`, print, or a path."""
    banned = {"backward", "cuda", "print", "open", "Path", "manual_seed", "step"}
    for method in find_methods(ROOT):
        tree = ast.parse((ROOT / f"{method}.py").read_text(encoding="utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        used = {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}
        assert used & banned == set(), method
