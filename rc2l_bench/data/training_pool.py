"""Which images a training takes without labels: the other training images, and those that the data set's pool adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rc2l_bench.data.joint import JointShards
from rc2l_bench.data.selection import Selection
from rc2l_bench.data.shards import Shards
from rc2l_bench.data.splits import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPool:
    """Images without labels.

    Attributes:
        shards: where they are.
        selection: those to draw from.
        left_out: how many of the added images are left out, because they are labelled or scored.
    """

    shards: Shards | JointShards
    selection: Selection
    left_out: int


def choose_unlabelled(plan: Split, pool: Shards, extra: Sequence[Shards], shown: Sequence[Shards]) -> TrainingPool:
    """Choose the unlabelled images of a split.

    The gate of the split compares training, validation and test images; images that are added to them are compared
    here, by the hashes of their bytes, because nobody has listed them when a split is made.

    Args:
        plan: the split.
        pool: all training images.
        extra: sets of images that are added.
        shown: labelled, validation and test images, which must not come in without labels.

    Raises:
        BenchError: an id of the split is not in the pool.
    """
    rest = plan.unlabelled is None
    own = pool.select(plan.labelled if plan.unlabelled is None else plan.unlabelled, without=rest)
    if not extra:
        return TrainingPool(shards=pool, selection=own, left_out=0)
    joint = JointShards([pool, *extra])
    selection, left_out = joint.without(own, (digest for shards in shown for digest in shards.table.hashes()))
    return TrainingPool(shards=joint, selection=selection, left_out=left_out)
