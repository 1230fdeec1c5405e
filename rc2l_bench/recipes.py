"""Write out recipes: protocols that start from one another and state only what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rc2l_bench.errors import suggest

BASE = "base"
"""Key of a recipe that names the recipe it starts from."""
RECIPE = "recipe"
"""Key of a protocol that names the recipe it starts from."""
KIND = "mode"
"""A mapping with this key is one of several forms with keys of their own, so it replaces the whole of another."""


def write_out(params: Mapping[str, Any]) -> dict[str, Any]:
    """Write out what recipes take from their `base` and protocols from their `recipe`.

    Why not YAML's own aliases: DVC's overrides are lost where two keys share one mapping.

    Args:
        params: content of params.yaml; values of unexpected types are passed on for the typed check to refuse.

    Returns:
        A copy without `base` and `recipe`.

    Raises:
        ValueError: a recipe is unknown, or starts from itself.
    """
    recipes, protocols = params.get("recipes", {}), params.get("protocol", {})
    if not isinstance(recipes, dict) or not isinstance(protocols, dict):
        return dict(params)
    # Recipes first, because a protocol starts from a recipe that has been written out; protocols never start from one
    # another.
    whole = {name: _compose(recipe, BASE, recipes, (f"recipes.{name}",)) for name, recipe in recipes.items()}
    chosen = {name: _compose(own, RECIPE, whole, (f"protocol.{name}",)) for name, own in protocols.items()}
    return {**params, "recipes": whole, "protocol": chosen}


def _compose(own: Any, key: str, recipes: Mapping[str, Any], path: tuple[str, ...]) -> Any:  # noqa: ANN401 - YAML
    """Put a recipe on top of the one that it names under `key`, and so on down.

    Args:
        own: content of a recipe or a protocol.
        key: `base` in a recipe, `recipe` in a protocol.
        recipes: by name.
        path: names on the way here, to find circles and for messages.

    Raises:
        ValueError: a recipe is unknown, or starts from itself.
    """
    if not isinstance(own, dict) or key not in own:
        return own
    name = own[key]
    if not isinstance(name, str) or name not in recipes:
        raise ValueError(f"{path[-1]}.{key}: there is no recipe '{name}'; {suggest(str(name), list(recipes))}")
    step = f"recipes.{name}"
    if step in path:
        raise ValueError(f"{step}: starts from itself ({' -> '.join([*path, step])})")
    changes = {other: value for other, value in own.items() if other != key}
    return overlay(_compose(recipes[name], BASE, recipes, (*path, step)), changes)


def overlay(base: Any, changes: Any) -> Any:  # noqa: ANN401 - YAML holds anything
    """Merge nested mappings: keys of `changes` win, and a mapping with a `mode` replaces the other as a whole."""
    # Merged key by key, `{mode: whole}` over `{mode: sliding, window: …}` would keep a window that `whole` does not
    # have.
    if not isinstance(base, dict) or not isinstance(changes, dict) or KIND in changes:
        return changes
    return {**base, **{key: overlay(base[key], value) if key in base else value for key, value in changes.items()}}
