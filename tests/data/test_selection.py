from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rc2l_bench.data.selection import Selection, everything


@given(total=st.integers(0, 60), data=st.data())
def test_a_selection_is_its_list_or_all_but_its_list_in_rising_order(total, data):
    listed = data.draw(st.lists(st.integers(0, max(0, total - 1)), unique=True, max_size=total))
    chosen, others = Selection(total, listed), Selection(total, listed, without=True)
    assert chosen[np.arange(len(chosen))].tolist() == sorted(listed)
    assert others[np.arange(len(others))].tolist() == sorted(set(range(total)) - set(listed))


def test_numbers_may_come_in_any_order():
    assert Selection(10, [0, 4, 9], without=True)[np.array([6, 0, 3, 3])].tolist() == [8, 1, 5, 5]


def test_everything_is_everything():
    assert everything(5)[np.arange(5)].tolist() == [0, 1, 2, 3, 4]
    assert len(everything(0)) == 0


def test_all_but_a_few_of_a_billion_take_no_memory():
    tracemalloc.start()
    others = Selection(10**9, range(0, 10**9, 10**7), without=True)
    assert others[np.array([0, 10**9 - 101])].tolist() == [1, 10**9 - 1]
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
