"""Catalogs of invented data sets for the tests of splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from rc2l_bench.config import SplitConfig
from rc2l_bench.data.catalog import Catalog, Row

CLASSES = ("ground", "house", "rare")


def row(identity: str, part: str = "train", *, labelled: bool = True, pixels=(6, 4, 0), content: str = "") -> Row:
    digest = hashlib.sha256((content or f"{part}/{identity}").encode()).hexdigest()
    return Row(identity, part, 2, 5, digest, labelled, tuple(pixels) if labelled else (0, 0, 0), 0)


def table(train: Iterable[Row], val: Iterable[Row] = (), test: Iterable[Row] = ()) -> Catalog:
    return Catalog(CLASSES, (*test, *sorted(train, key=lambda r: r.id), *val))


def ids(count: int, prefix: str = "2099_") -> list[str]:
    return [f"{prefix}{index:06d}" for index in range(count)]


UNIFORM = SplitConfig(seed=0, draws="fixed", policy="uniform", held_out=0.25)
BALANCED = SplitConfig(seed=0, draws="fixed", policy="balanced", held_out=0.25)
CATALOG = table(row(name) for name in ids(1000))
