from __future__ import annotations

import numpy as np
import pytest
from shards_data import META, make_others, make_samples, make_shards

from rc2l_bench.data.packing import write
from rc2l_bench.data.shards import Shards
from rc2l_bench.data.splits import Split, TrainingImages
from rc2l_bench.data.training_pool import choose_unlabelled


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Shards:
    return make_shards(tmp_path_factory.mktemp("own"), 6, masks=False)


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Shards:
    return make_others(tmp_path_factory.mktemp("others"))


def split(labelled: tuple[str, ...], unlabelled: tuple[str, ...] | None = None) -> Split:
    train = TrainingImages(count=6, ids_sha256="")
    return Split(
        dataset="tiny", name="x", labelled=labelled, unlabelled=unlabelled, train=train, pixels={}, provenance={}
    )


@pytest.mark.parametrize(("unlabelled", "own"), [(None, [1, 2, 3, 5]), (("a.002", "a.003"), [2, 3])])
def test_what_is_labelled_or_scored_does_not_come_in_by_the_pool(pool, others, tmp_path, unlabelled, own):
    labelled, val = tmp_path / "labelled", tmp_path / "val"
    write(labelled, [make_samples(6)[0], make_samples(6)[4]], META, "train", 3, with_masks=True)
    write(val, make_samples(2, start=10), META, "val", 3, with_masks=True)
    plan = split(("a.000", "a.004"), unlabelled)
    chosen = choose_unlabelled(plan, pool, [others], [Shards(labelled), Shards(val)])
    taken = chosen.selection[np.arange(len(chosen.selection))].tolist()
    assert taken == [*own, *(6 + number - 4 for number in (5, 6, 7, 8, 9))]
    assert chosen.left_out == 3, "4 is labelled, 10 and 11 are scored"
    alone = choose_unlabelled(plan, pool, [], [])
    assert (alone.shards, alone.selection[np.arange(len(own))].tolist()) == (pool, own)
