"""The gate against contamination: groups of images that must share none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

from rc2l_bench.data.catalog import Row
from rc2l_bench.errors import BenchError

SHOWN = 10
"""Pairs of equal images that a message names."""
Grouped = tuple[str, Row]
"""A group, and an image of it."""


def check_apart(title: str, groups: Mapping[str, Sequence[Row]]) -> None:
    """Make sure that no image is in two groups, neither by its id nor by the bytes of its file.

    Args:
        title: what is checked, for messages.
        groups: images by the name of their group.

    Raises:
        BenchError: one is; the message says how many pairs there are and names the first ones.
    """
    members = [(group, row) for group, rows in groups.items() for row in rows]
    for what, key in (("id", attrgetter("id")), ("content", attrgetter("image_sha256"))):
        if pairs := list(_shared(members, key)):
            raise BenchError(f"{title}: {_describe(what, pairs)}")


def _shared(members: Iterable[Grouped], key: Callable[[Row], str]) -> Iterator[tuple[Grouped, Grouped]]:
    """Pairs of rows in different groups that have one key."""
    seen: dict[str, list[Grouped]] = {}
    for group, row in members:
        same = seen.setdefault(key(row), [])
        yield from ((other, (group, row)) for other in same if other[0] != group)
        same.append((group, row))


def _describe(what: str, pairs: Sequence[tuple[Grouped, Grouped]]) -> str:
    named = [f"'{one[1].id}' ({one[0]}) and '{other[1].id}' ({other[0]})" for one, other in pairs[:SHOWN]]
    more = f", and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
    head = f"{len(pairs)} pairs of images on two sides are the same by {what}"
    if len(pairs) == 1:
        head = f"{pairs[0][0][0]} and {pairs[0][1][0]} share an image by {what}"
    remedy = "take one of each out of the data or the list (own images: `duplicates: drop`)"
    return f"{head}: {', '.join(named)}{more}: {remedy}"
