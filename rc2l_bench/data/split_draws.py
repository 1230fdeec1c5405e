"""Splits that are drawn here.

Names of drawn splits: `full`, or `1_N` for one N-th of the training images that have a mask, rounded up, as the
published lists are (CPS, U2PL, UniMatch). Which images `1_N` has depends on the seed of the cell, where `split.draws`
in params.yaml says so; `1_N-sK` is one draw for every cell, the one with seed K. All splits of a draw are beginnings of
one permutation, so 1_16 ⊂ 1_8 ⊂ 1_4 ⊂ 1_2. `classic_1_N` is drawn from the images with clean masks only (VOC: 1,464 of
10,582); all others are unlabelled.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from rc2l_bench.config import Draws, SplitConfig
from rc2l_bench.data.catalog import Catalog, Row
from rc2l_bench.data.splits import Split, assemble
from rc2l_bench.draws import derive
from rc2l_bench.errors import UsageError

_DRAWN = re.compile(r"full|(?P<classic>classic_)?1_(?P<n>[1-9]\d{0,5})(-s(?P<seed>0|[1-9]\d{0,8}))?")
_HINT = "1_N (one N-th of the labels, for instance 1_16), 1_N-sK (with seed K), classic_1_N (of the clean masks), full"


def is_drawn(name: str) -> bool:
    """Whether a name is that of a split that is drawn here, not of a list."""
    return _DRAWN.fullmatch(name) is not None


def order(rows: Iterable[Row], seed: int, policy: str) -> list[str]:
    """The permutation of the labelled training images that all splits of a seed begin with.

    Args:
        rows: training images with masks; their order does not matter.
        seed: any integer.
        policy: `uniform`: by a hash of (seed, id), the same for ever; `balanced`: the same, but images that bring in
            classes not seen before are moved to the front, so that every beginning covers the classes it can: again
            and again the rarest class that is missing is taken, and of its images the one with most missing classes.

    Returns:
        All ids.
    """
    drawn = sorted(rows, key=lambda row: (derive(seed, f"split/{row.id}"), row.id))
    first = _cover(drawn) if policy == "balanced" else []
    return [row.id for row in [*first, *(row for row in drawn if row not in first)]]


def _cover(rows: list[Row]) -> list[Row]:
    """A few of the rows that have every class that any row has; our choice of the greedy rule."""
    has = {row.id: {k for k, count in enumerate(row.pixels) if count} for row in rows}
    images = {k: sum(k in classes for classes in has.values()) for k in set().union(*has.values())}
    chosen: list[Row] = []
    missing = set(images)
    while missing:
        rarest = min(missing, key=lambda k: (images[k], k))
        # max takes the first of equals: the order of the permutation decides.
        best = max((row for row in rows if rarest in has[row.id]), key=lambda row: len(has[row.id] & missing))
        chosen.append(best)
        missing -= has[best.id]
    return chosen


def draw(
    dataset: str,
    name: str,
    catalog: Catalog,
    config: SplitConfig,
    cell_seed: int = 0,
    clean: Collection[str] | None = None,
) -> Split:
    """Draw the split that a name like `1_16`, `1_16-s3`, `classic_1_4` or `full` describes, and check it.

    Args:
        dataset: its name.
        name: of the split.
        catalog: of the data set.
        config: seed, draws and policy.
        cell_seed: of the cell that trains on it.
        clean: ids of the images with clean masks, for `classic_`; None = nobody knows which they are.

    Raises:
        UsageError: the name is of another form, or needs to know the clean masks.
        BenchError: the gate found a contamination.
    """
    match = _DRAWN.fullmatch(name)
    if match is None:
        raise UsageError(f"split '{name}': not the name of a drawn split: {_HINT}")
    pool = [row for row in catalog.of("train") if row.labelled]
    if match["classic"]:
        if clean is None:
            raise UsageError(f"split '{name}': {dataset} has no list of images with clean masks: {_HINT}")
        pool = [row for row in pool if row.id in clean]
    count = -(-len(pool) // int(match["n"] or 1))
    draws: Draws = "all" if count == len(pool) else config.draws if match["seed"] is None else "fixed"
    seed = config.seed + (cell_seed if draws == "by_seed" else 0) if match["seed"] is None else int(match["seed"])
    labelled = order(pool, seed, config.policy)[:count]
    rule = {"kind": "drawn", "draws": draws, "seed": seed, "policy": config.policy, "of": len(pool), "rounding": "up"}
    rule |= {"masks": "clean"} if match["classic"] else {}
    return assemble(dataset, name, catalog, labelled, None, rule)
