"""Choose the audited images: unlabelled training images on whose masks pseudo-labels are scored, and nothing learns."""

from __future__ import annotations

from rc2l_bench.data.catalog import Catalog
from rc2l_bench.data.splits import Split

MOST = 64
"""Images: a mIoU of so many is steady enough for a curve, and takes seconds."""


def choose_audited(plan: Split, catalog: Catalog) -> list[str]:
    """Choose at most `MOST` unlabelled training images that have a mask.

    Args:
        plan: the split.
        catalog: of its data set.

    Returns:
        Sorted ids, evenly spaced among all that come into question, because neighbours may be frames of one film; none
        where every image with a mask is labelled.
    """
    labelled = set(plan.labelled)
    listed = None if plan.unlabelled is None else set(plan.unlabelled)
    masked = [row.id for row in catalog.of("train") if row.labelled and row.id not in labelled]
    ids = sorted(i for i in masked if listed is None or i in listed)
    count = min(MOST, len(ids))
    # The middle of each of `count` equal stretches.
    return [ids[(2 * k + 1) * len(ids) // (2 * count)] for k in range(count)]
