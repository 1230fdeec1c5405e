"""A study: the files around the instrument (numbers, stages, rivals, splits), laid out where no checkout is.

The wheel carries the checkout's own files; a stage of a study depends on the installed package as a whole, because the
files of a package have no place in a study, and that of another machine is elsewhere.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.files import naming, temporary_name
from rc2l_bench.readers import read_text

PACKAGE = Path(__file__).parent
CARRIED = PACKAGE / "study_files"
"""Where a wheel carries the files."""
STAGES = ("dvc.yaml", "pipelines/dvc.yaml")
DVC = ".dvc"
MARKS = ("params.yaml", "dvc.yaml")
"""What tells a study from any other folder."""
IGNORED = shutil.ignore_patterns("__pycache__")


def require_new(folder: Path) -> None:
    """Make sure that a folder may become a study.

    Raises:
        UsageError: there is something in it.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder}: is not empty: a study begins in a new folder")


def lay_out(folder: Path) -> None:
    """Write the files of a study; all of them are there at the end, or none.

    Args:
        folder: new or empty.

    Raises:
        UsageError: it is not, or this package has no such files.
        OSError: it cannot be written to.
    """
    require_new(folder)
    place = folder.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    part = temporary_name(place)
    try:
        with naming(place):
            part.mkdir()
            for source, name in _files():
                _copy(source, part / name)
            for name in STAGES:
                (part / name).write_text(detach(read_text(part / name)), encoding="utf-8")
            place.mkdir(exist_ok=True)
            for entry in part.iterdir():
                entry.rename(place / entry.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _files() -> Iterator[tuple[Path, str]]:
    """Files and folders to copy, and their names in a study; `.dvc` is not among them, DVC begins that."""
    root = CARRIED if CARRIED.is_dir() else PACKAGE.parent
    for name in carried_names():
        if not name.startswith(f"{DVC}/"):
            yield root / name, name


def carried_names() -> list[str]:
    """Names of the files and folders of a checkout that a study is made of, as pyproject.toml lists them.

    Raises:
        UsageError: the package was installed without them.
    """
    if CARRIED.is_dir():
        return [path.relative_to(CARRIED).as_posix() for path in sorted(CARRIED.rglob("*")) if path.is_file()]
    project = PACKAGE.parent / "pyproject.toml"
    if not project.is_file():
        raise UsageError(f"{PACKAGE}: was installed without the files of a study: install the wheel, or use a checkout")
    wheel = tomllib.loads(read_text(project))["tool"]["hatch"]["build"]["targets"]["wheel"]
    names: list[str] = wheel["hooks"]["custom"]["study"]
    return names


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=IGNORED)
    else:
        shutil.copyfile(source, target)


def detach(text: str) -> str:
    """Let the stages of a dvc.yaml depend on the scan, which names the installed package, instead of on its files.

    Args:
        text: of the file, whose comments stay.
    """
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    content: Any = yaml.load(text)
    for stage in content["stages"].values():
        deps = stage["deps"]
        inner = [dep for dep in deps if dep.startswith(f"{PACKAGE.name}/")]
        for dep in inner:
            deps.remove(dep)
        # One list for each data set; the report has none of its own.
        scan = "data/scan/${item.dataset}.txt" if "matrix" in stage else "data/scan"
        if inner and scan not in deps:
            deps.append(scan)
    out = io.StringIO()
    yaml.dump(content, out)
    return out.getvalue()


def begin_dvc(folder: Path) -> bool:
    """Let DVC begin a repository in a study, with the settings that the suite is tested with.

    Returns:
        Whether DVC is installed.

    Raises:
        BenchError: it refuses.
    """
    if importlib.util.find_spec("dvc") is None:
        return False
    place = folder.resolve()
    git = next((parent for parent in (place, *place.parents) if (parent / ".git").exists()), None)
    how = ["--no-scm"] if git is None else [] if git == place else ["--subdir"]
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "init", "--quiet", *how], cwd=place, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise BenchError(f"{folder}: dvc init failed: {reason}")
    root = CARRIED if CARRIED.is_dir() else PACKAGE.parent
    for name in (name for name in carried_names() if name.startswith(f"{DVC}/")):
        _copy(root / name, place / name)
    if git is None:
        with (place / DVC / "config").open("a", encoding="utf-8") as file:
            file.write("    no_scm = true\n")
    return True


def name_package() -> str:
    """Digest the files of the installed package, for stages that cannot depend on them one by one.

    Returns:
        sha256, 64 hex digits.
    """
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".yaml") and CARRIED not in path.parents:
            digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
