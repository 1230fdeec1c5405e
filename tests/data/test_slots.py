from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

from rc2l_bench.data.slots import Slots


def item(seed: int = 0) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(0, 255, size, dtype=np.uint8) for size in ((3, 5), (0,), (7, 1, 2))]
    return {"id": "a", "arrays": arrays, "wide": rng.random((4, 6)), "nothing": None}


def assert_same(one: dict, other: dict) -> None:
    assert (one["id"], one["nothing"]) == (other["id"], other["nothing"])
    for mine, theirs in zip([*one["arrays"], one["wide"]], [*other["arrays"], other["wide"]], strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def test_what_is_put_comes_out_and_slots_do_not_mix():
    slots = Slots(2, 4096)
    parcels = [slots.put(number, item(number)) for number in (0, 1)]
    for number, parcel in enumerate(parcels):
        assert_same(slots.take(parcel), item(number))


def test_arrays_are_not_part_of_what_is_sent():
    slots = Slots(1, 1 << 20)
    parcel = slots.put(0, np.zeros(1 << 20, np.uint8))
    assert parcel.loose is None
    assert len(parcel.head) < 1000


def test_arrays_that_are_taken_lie_in_the_slot_and_may_be_written_to():
    slots = Slots(1, 4096)
    first = slots.take(slots.put(0, np.full(8, 1, np.uint8)))
    first[0] = 9
    slots.put(0, np.full(8, 2, np.uint8))
    assert first.tolist() == [2] * 8


def test_what_is_too_large_for_a_slot_travels_all_the_same():
    slots = Slots(1, 100)
    parcel = slots.put(0, item())
    assert parcel.loose is not None
    assert_same(slots.take(parcel), item())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_writes_into_the_same_memory(method):
    context = multiprocessing.get_context(method)
    slots, queue = Slots(1, 4096), context.Queue()
    process = context.Process(target=put, args=(slots, queue))
    process.start()
    parcel = queue.get(timeout=60)
    process.join()
    assert parcel.loose is None
    assert_same(slots.take(parcel), item(5))


def put(slots: Slots, queue) -> None:
    queue.put(slots.put(0, item(5)))
