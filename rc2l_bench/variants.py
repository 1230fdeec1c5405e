"""Methods by id, and their named variants. Reading them needs no torch.

`rc2l_bench/methods/rc2l@rmc` is the method with the changes that its yaml calls `rmc`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rc2l_bench.errors import UsageError, suggest
from rc2l_bench.schema import read_yaml
from rc2l_bench.sources import module_file

MARK = "@"
HOME = "rc2l_bench/methods"
"""Where the methods of the package itself lie; those of the checkout lie in `baselines`."""
FILE_MARK = "+"
"""What stands for the mark in params.yaml and in paths: DVC takes an @ in the name of a stage for its own."""
VARIANTS = "variants"
"""The key of a method's yaml that holds, by name, what a variant changes."""
TUNE = "tune"
"""The key of a method's yaml that holds the ranges of the numbers that are tuned."""
UNTUNED = "untuned"
"""The variant that every method has: its yaml as it is, without what tuning chose."""


def base_of(method: str) -> str:
    """The id without the variant: whose module it is."""
    return method.partition(MARK)[0]


def variant_of(method: str) -> str:
    """The variant of an id; empty for the method as its yaml has it."""
    return method.partition(MARK)[2]


def file_name_of(method: str) -> str:
    """Spell an id as params.yaml and paths do: `baselines/cps+plain`."""
    return method.replace(MARK, FILE_MARK)


def method_of(file_name: str) -> str:
    """Give the id that `file_name_of` has spelled."""
    return file_name.replace(FILE_MARK, MARK)


def method_yaml(method: str) -> Path:
    """The yaml beside a method's module.

    Args:
        method: id, with or without a variant.

    Raises:
        UsageError: there is no such method.
    """
    base = base_of(method)
    file = module_file(base.replace("/", "."))
    if file is None:
        raise UsageError(f"unknown method '{base}': there is no {base}.py at the root of the checkout")
    return file.with_suffix(".yaml")


def variants_of(method: str) -> dict[str, Any]:
    """The variants that the yaml of a method names, each with what it changes.

    Raises:
        UsageError: there is no such method, or they are not changes by name.
    """
    file = method_yaml(method)
    content = read_yaml(file)
    found = content.get(VARIANTS, {}) if isinstance(content, dict) else {}
    if not isinstance(found, dict) or not all(isinstance(changes, dict) for changes in found.values()):
        raise UsageError(f"{file}: {VARIANTS}: expected names, and under each the keys that it changes")
    return found


def changes_of(method: str) -> dict[str, Any]:
    """What the variant of an id changes; nothing where the id has no variant.

    Raises:
        UsageError: there is no such method or variant.
    """
    if variant_of(method) == UNTUNED or MARK not in method:
        return {}
    known, name = variants_of(method), variant_of(method)
    if name not in known:
        raise UsageError(f"unknown variant '{name}' of {base_of(method)}: {suggest(name, known)}")
    changes: dict[str, Any] = known[name]
    return changes


def read_config(method: str, tuned: Mapping[str, float] | None = None) -> Any:  # noqa: ANN401 - YAML holds anything
    """A method's yaml with tuned numbers and the changes of its variant, as it stands there: not checked yet.

    Args:
        method: id, with or without a variant.
        tuned: numbers by name, `weights.smc`; a variant that changes one of them has the last word.

    Raises:
        UsageError: there is no such method or variant, or a key that is changed is not there.
    """
    file, changes = method_yaml(method), changes_of(method)
    content = read_yaml(file)
    if not isinstance(content, dict):
        return content
    own = {key: value for key, value in content.items() if key not in (VARIANTS, TUNE)}
    for name, value in (tuned or {}).items():
        own = _changed(own, _nested(name, value), f"{file}: tuned")
    return _changed(own, changes, f"{file}: {VARIANTS}.{variant_of(method)}")


def _nested(name: str, value: float) -> dict[str, Any]:
    """`a.b` and 1 become {a: {b: 1}}."""
    first, _, rest = name.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _changed(base: dict[str, Any], changes: dict[str, Any], where: str) -> dict[str, Any]:
    out = dict(base)
    for key, value in changes.items():
        if key not in base:
            raise UsageError(f"{where}.{key}: unknown key; {suggest(str(key), list(base))}")
        both = isinstance(value, dict) and isinstance(base[key], dict)
        out[key] = _changed(base[key], value, f"{where}.{key}") if both else value
    return out


def find_methods(root: Path = Path()) -> list[str]:
    """Ids of all methods: modules with a yaml beside them, in baselines/ and in the package."""
    rivals = [f"baselines/{file.stem}" for file in sorted((root / "baselines").glob("*.yaml"))]
    home = [f"{HOME}/{file.stem}" for file in sorted((Path(__file__).parent / "methods").glob("*.yaml"))]
    return [*rivals, *home]


def resolve_method(name: str, methods: list[str]) -> str:
    """The id that a name stands for: an id, or the tail of exactly one; a variant may follow.

    Raises:
        UsageError: there is no such method or variant, or there are several methods.
    """
    tail = base_of(name)
    found = [method for method in methods if method == tail or method.endswith(f"/{tail}")]
    if len(found) > 1:
        raise UsageError(f"method '{tail}' is ambiguous: {', '.join(found)}")
    if not found:
        raise UsageError(f"unknown method '{tail}': {suggest(tail, [m.split('/')[-1] for m in methods])}")
    method = found[0] + name.removeprefix(tail)
    changes_of(method)
    return method
