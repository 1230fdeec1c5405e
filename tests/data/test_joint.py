"""Sets of shards as one, and which of their images a training takes without labels."""

from __future__ import annotations

import numpy as np
import pytest
from shards_data import make_others, make_shards

from rc2l_bench.data.joint import JointShards
from rc2l_bench.data.shards import Shards


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Shards:
    return make_shards(tmp_path_factory.mktemp("own"), 6, masks=False)


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Shards:
    return make_others(tmp_path_factory.mktemp("others"))


def test_positions_go_through_all_sets(pool, others):
    joint = JointShards([pool, others])
    assert len(joint) == 14
    assert list(joint.ids) == [*pool.ids, *others.ids]
    order = [13, 0, 6, 5, 7, 0]
    expected = [(pool if place < 6 else others).read([place % 6 if place < 6 else place - 6])[0] for place in order]
    found = joint.read(order)
    assert [encoded.image for encoded in found] == [encoded.image for encoded in expected]
    sizes = [(encoded.entry.height, encoded.entry.width) for encoded in expected]
    assert joint.sizes(np.array(order)).tolist() == [list(size) for size in sizes]
    assert (joint.largest, joint.labelled) == ((24, 32), False)
