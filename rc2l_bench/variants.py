"""Find methods by id and read their yaml with the changes of a named variant; needs no torch.

`rc2l_bench/methods/rc2l@rmc` is the method with the changes that its yaml calls `rmc`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rc2l_bench.errors import UsageError, suggest
from rc2l_bench.schema import read_yaml
from rc2l_bench.sources import module_file, parse_source

MARK = "@"
HOME = "rc2l_bench/methods"
"""Folder of the methods of the package itself; those of the checkout lie in `baselines`."""
FILE_MARK = "+"
"""Replacement of the mark in params.yaml and in paths: DVC takes an @ in the name of a stage for its own."""
VARIANTS = "variants"
"""The key of a method's yaml that holds, by name, what a variant changes."""
TUNE = "tune"
"""The key of a method's yaml that holds the ranges of the numbers that are tuned."""
PROTOCOL = "protocol"
"""The key of a variant that holds what it changes of the protocol: a study of queries needs other networks."""
UNTUNED = "untuned"
"""The variant that every method has: its yaml as it is, without what tuning chose."""


def base_of(method: str) -> str:
    """Return the id without the variant: the path of the module."""
    return method.partition(MARK)[0]


def variant_of(method: str) -> str:
    """Return the variant of an id; empty for the method as its yaml has it."""
    return method.partition(MARK)[2]


def file_name_of(method: str) -> str:
    """Spell an id as params.yaml and paths do: `baselines/cps+plain`."""
    return method.replace(MARK, FILE_MARK)


def method_of(file_name: str) -> str:
    """Turn what `file_name_of` has spelled back into an id."""
    return file_name.replace(FILE_MARK, MARK)


def method_yaml(method: str) -> Path:
    """Return the yaml beside a method's module.

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


def describe_method(method: str) -> str:
    """Read the first line of a method's docstring without importing the method, and torch with it.

    Args:
        method: id, with or without a variant.

    Returns:
        The line; empty where the method's module is not in sight.
    """
    file = module_file(base_of(method).replace("/", "."))
    return (ast.get_docstring(parse_source(file)) or "").partition("\n")[0] if file else ""


def variants_of(method: str) -> dict[str, Any]:
    """Read the variants that the yaml of a method names.

    Args:
        method: id, with or without a variant.

    Returns:
        By name of the variant, the keys that it changes.

    Raises:
        UsageError: there is no such method, or they are not changes by name.
    """
    file = method_yaml(method)
    content = read_yaml(file)
    # A yaml that is no mapping at all is refused by the typed check, with a better message than this function has.
    found = content.get(VARIANTS, {}) if isinstance(content, dict) else {}
    if not isinstance(found, dict) or not all(isinstance(changes, dict) for changes in found.values()):
        raise UsageError(f"{file}: {VARIANTS}: expected names, and under each the keys that it changes")
    return found


def changes_of(method: str) -> dict[str, Any]:
    """Return what the variant of an id changes; nothing where the id has no variant, or is `@untuned`.

    Args:
        method: id, with or without a variant.

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


def protocol_changes(method: str) -> dict[str, Any]:
    """Give what the variant of an id changes of the protocol; nothing for most.

    Raises:
        UsageError: there is no such method or variant, or the changes are not keys and values.
    """
    changes = changes_of(method).get(PROTOCOL, {})
    if not isinstance(changes, dict):
        where = f"{method_yaml(method)}: {VARIANTS}.{variant_of(method)}.{PROTOCOL}"
        raise UsageError(f"{where}: expected keys of the protocol and values")
    return dict(changes)


def read_config(method: str, tuned: Mapping[str, float] | None = None) -> Any:  # noqa: ANN401 - YAML holds anything
    """Read a method's yaml with tuned numbers and the changes of its variant, not checked yet.

    Not checked, because the typed form lies in the method's module, and importing that imports torch.

    Args:
        method: id, with or without a variant.
        tuned: numbers by name, `weights.smc`; a variant that changes one of them has the last word.

    Returns:
        The content without `variants` and `tune`.

    Raises:
        UsageError: there is no such method or variant, or a key that is changed is not there.
    """
    file = method_yaml(method)
    changes = {key: value for key, value in changes_of(method).items() if key != PROTOCOL}
    content = read_yaml(file)
    if not isinstance(content, dict):
        return content
    # Left out, so that a new variant or another search range makes no finished run of the method stale.
    own = {key: value for key, value in content.items() if key not in (VARIANTS, TUNE)}
    # Tuned numbers first: an ablation that sets a weight to 0 must not get the tuned weight back.
    for name, value in (tuned or {}).items():
        own = _changed(own, _nested(name, value), f"{file}: tuned")
    return _changed(own, changes, f"{file}: {VARIANTS}.{variant_of(method)}")


def _nested(name: str, value: float) -> dict[str, Any]:
    """Turn a dotted name and a value into nested keys: `a.b` and 1 into {a: {b: 1}}."""
    first, _, rest = name.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _changed(base: dict[str, Any], changes: dict[str, Any], where: str) -> dict[str, Any]:
    """Merge changes into a copy of nested keys; `where` is their place, for messages.

    Raises:
        UsageError: a key that is changed is not there, so a misspelt change never passes for one without effect.
    """
    out = dict(base)
    for key, value in changes.items():
        if key not in base:
            raise UsageError(f"{where}.{key}: unknown key; {suggest(str(key), list(base))}")
        both = isinstance(value, dict) and isinstance(base[key], dict)
        out[key] = _changed(base[key], value, f"{where}.{key}") if both else value
    return out


def find_methods(root: Path = Path()) -> list[str]:
    """List the ids of all methods: modules with a yaml beside them, in baselines/ and in the package.

    Args:
        root: of the checkout.

    Returns:
        Sorted ids, those of baselines/ first.
    """
    # The yaml tells a method from a helper module without importing either.
    rivals = [f"baselines/{file.stem}" for file in sorted((root / "baselines").glob("*.yaml"))]
    # Beside this file, not under `root`: the package may be installed outside of the checkout.
    home = [f"{HOME}/{file.stem}" for file in sorted((Path(__file__).parent / "methods").glob("*.yaml"))]
    return [*rivals, *home]


def resolve_method(name: str, methods: list[str]) -> str:
    """Return the id that a name stands for.

    Args:
        name: an id, or the tail of exactly one; a variant may follow.
        methods: all ids.

    Raises:
        UsageError: there is no such method or variant, or there are several methods.
    """
    tail = base_of(name)
    # With a slash before the tail: `region` is not the tail of `supervised_region`.
    found = [method for method in methods if method == tail or method.endswith(f"/{tail}")]
    if len(found) > 1:
        raise UsageError(f"method '{tail}' is ambiguous: {', '.join(found)}")
    if not found:
        raise UsageError(f"unknown method '{tail}': {suggest(tail, [m.split('/')[-1] for m in methods])}")
    method = found[0] + name.removeprefix(tail)
    changes_of(method)  # refuses an unknown variant here, before any data is prepared for it
    return method
