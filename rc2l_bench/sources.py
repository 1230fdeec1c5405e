"""The sources that make the numbers of a method, and the name of a run. Imports none of them, and no torch."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

QUIET = {f"rc2l_bench{'.' if name else ''}{name}" for name in (
    "", "config", "console", "errors", "files", "readers", "recipes", "schema", "seals", "sources", "tuning",
    "variants",
    "data", "data.datasets", "data.datasets.base", "data.index", "losses", "methods", "nets", "nets.weights",
    "run", "run.allocations", "run.artifacts", "run.cell", "run.hardware", "run.progress", "run.store",
)}  # fmt: skip
"""Modules that read, write or show, and make no numbers."""


def module_file(module: str) -> Path | None:
    """The source file of a module of this project; None for what is not one, or lies elsewhere. Imports nothing."""
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top) if top in ("rc2l_bench", "baselines") else None
    for folder in (spec and spec.submodule_search_locations) or ():
        stem = Path(folder, *inner)
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if file.is_file():
                return file
    return None


def imported(file: Path) -> Iterator[str]:
    """Names that a file imports: modules, and for `from a import b` also `a.b`, which may be one."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources(*modules: str) -> dict[str, Path]:
    """Files of modules and of all that they import within the project, without the quiet ones.

    Args:
        modules: for instance `rc2l_bench.run.runner`, `baselines.cps`.

    Returns:
        File by module, sorted by module.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        file = module_file(module)
        if file is not None and module not in found and module not in QUIET:
            found[module] = file
            waiting += imported(file)
    return dict(sorted(found.items()))


def digest_sources(method: str) -> str:
    """sha256 of what all modules that make the numbers of a method execute.

    Args:
        method: id, for instance `baselines/cps`.
    """
    digest = hashlib.sha256()
    for module, file in sources("rc2l_bench.run.runner", method.replace("/", ".")).items():
        digest.update(f"{module}\n{executed(file)}\n".encode())
    return digest.hexdigest()


def executed(file: Path) -> str:
    """The syntax tree of a module without docstrings, comments and positions: equal for files that do the same.

    A statement that is only a string does nothing, so docstrings and the strings under constants are left out. A
    docstring that a program reads (`__doc__`) would be missed; no module that makes numbers reads one.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, [statement for statement in block if not _is_string(statement)])
    return ast.unparse(tree)  # unlike `ast.dump`, the same for several versions of Python


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def digest_file(path: Path) -> str:
    """sha256 of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(parts: Mapping[str, Any]) -> str:
    """The name of a run: sha256 of all that makes its numbers.

    Args:
        parts: JSON values; the order of keys does not matter.

    Returns:
        64 hex digits.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()
