"""Columns by their buffers against those that Arrow makes itself."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from rc2l_bench.data.arrow_columns import HASH, make_column, view_numbers

HASHES = [hashlib.sha256(bytes([number])).digest() for number in range(3)]


@pytest.mark.parametrize(("values", "kind"), [
    ([1, -2, 2**31 - 1], pa.int32()),
    ([1, -(2**62), 0], pa.int64()),
    ([0, 2**64 - 1], pa.uint64()),
    (HASHES, HASH),
    (["a", "", "Straße/😀", "b"], pa.string()),
    ([], pa.int64()),
    ([], pa.string()),
    ([], HASH),
])  # fmt: skip
def test_a_column_is_the_one_that_arrow_makes(values, kind):
    column = make_column(values, kind)
    column.validate(full=True)
    assert column.equals(pa.array(values, kind))


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.uint64()])
def test_numbers_of_a_slice_are_seen_where_they_lie(kind):
    column = make_column(range(10), kind)
    numbers = view_numbers(column.slice(3, 4))
    assert numbers.tolist() == [3, 4, 5, 6]
    assert numbers.dtype == kind.to_pandas_dtype()
    assert np.shares_memory(numbers, view_numbers(column))
