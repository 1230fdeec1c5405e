"""Digest the sources that make the numbers of a method, and name runs. Imports none of them, and no torch."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from rc2l_bench.readers import read_text, reading

QUIET = {f"rc2l_bench{'.' if name else ''}{name}" for name in (
    "", "bounds", "config", "console", "errors", "files", "protocol", "readers", "recipes", "runtime", "schema",
    "seals", "sources", "study", "tuning", "variants", "views",
    "data", "data.datasets", "data.datasets.base", "data.index", "data.partial_files", "data.pool_sets",
    "data.slots", "data.storage",
    "losses", "methods", "nets", "nets.weights",
    "run", "run.allocations", "run.artifacts", "run.bundles", "run.cell", "run.clock", "run.far_runs", "run.far_store",
    "run.hardware", "run.leases", "run.object_store", "run.owners", "run.progress", "run.running", "run.signals",
    "run.store", "run.tracker_process", "run.trackers",
)}  # fmt: skip
"""Modules that read, write or show and make no numbers: their edits make no run stale."""
FACTS = ("fingerprint", "carried", "scored", "network", "hardware", "commit", "averaged_classes")
"""Keys of run.json that are no part of its fingerprint: what it ran on, and what was read off the result."""

KEPT = 1024
"""Modules whose trees are kept, by their text: those of a method are asked for once for every cell of a grid."""


def module_file(module: str) -> Path | None:
    """Find the source file of a module of this project without importing anything.

    Args:
        module: dotted name.

    Returns:
        The file; None for a name that is no module, or one outside of this project.
    """
    top, *inner = module.split(".")
    # Only the top is looked up: for `a.b` find_spec imports `a`. The rest is a matter of paths.
    spec = importlib.util.find_spec(top) if top in ("rc2l_bench", "baselines") else None
    for folder in (spec and spec.submodule_search_locations) or ():
        stem = Path(folder, *inner)
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if file.is_file():
                return file
    return None


def parse_source(file: Path) -> ast.Module:
    """Parse a module without importing it.

    Raises:
        DamagedFileError: it is no Python.
    """
    with reading(file):
        return ast.parse(read_text(file))


def imported(file: Path) -> Iterator[str]:
    """List the names that a file imports, lazy imports inside functions included.

    Args:
        file: Python source.

    Yields:
        Dotted names; for `from a import b` both `a` and `a.b`, because `b` may be a module or not.
    """
    with reading(file):
        yield from _imported(read_text(file))


@lru_cache(maxsize=KEPT)
def _imported(text: str) -> tuple[str, ...]:
    names = []
    # The whole tree, not its top: a module that is imported lazily inside a function makes numbers all the same.
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def sources(*modules: str) -> dict[str, Path]:
    """Collect the files of modules and of all that they import within the project, without the quiet ones.

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
        # What a quiet module imports is not followed: if it makes numbers, a module that is not quiet imports it, too.
        if file is not None and module not in found and module not in QUIET:
            found[module] = file
            waiting += imported(file)
    return dict(sorted(found.items()))


def digest_sources(method: str) -> str:
    """Digest what all modules that make the numbers of a method execute.

    Args:
        method: id, for instance `baselines/cps`.

    Returns:
        sha256, 64 hex digits; comments and docstrings do not move it.
    """
    # The runner imports all of training, evaluation and data, but methods by their id only, so the method is named
    # here.
    digest = hashlib.sha256()
    for module, file in sources("rc2l_bench.run.runner", method.replace("/", ".")).items():
        digest.update(f"{module}\n{executed(file)}\n".encode())
    return digest.hexdigest()


def executed(file: Path) -> str:
    """Return the syntax tree of a module as text, without docstrings, comments and positions.

    Equal for files that do the same; the bytes of a file would make a day of trainings stale for an edited comment.

    A statement that is only a string does nothing, so docstrings and the strings under constants are left out. A
    docstring that a program reads (`__doc__`) would be missed; no module that makes numbers reads one.
    """
    with reading(file):
        return _executed(read_text(file))


@lru_cache(maxsize=KEPT)
def _executed(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, [statement for statement in block if not _is_string(statement)])
    return ast.unparse(tree)  # unlike `ast.dump`, the same for several versions of Python


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def digest_file(path: Path) -> str:
    """Digest the bytes of a file.

    Returns:
        sha256, 64 hex digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Name a run by the sha256 of all that makes its numbers.

    Args:
        parts: JSON values; the order of keys does not matter.

    Returns:
        64 hex digits.
    """
    # NaN is refused because JSON has none: it would be written as a word that other readers reject.
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()


def fingerprint_again(record: Mapping[str, Any]) -> str:
    """Name a finished run by the parts that its run.json holds; another name than is written there means an edit.

    Args:
        record: content of run.json, without hashes of files.

    Returns:
        64 hex digits.
    """
    return fingerprint({name: value for name, value in record.items() if name not in FACTS})
