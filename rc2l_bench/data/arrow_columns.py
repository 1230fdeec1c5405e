"""Columns of Arrow tables from and to numpy's arrays, by their buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

HASH = pa.binary(32)
"""Type of a sha256."""

# Arrow's own ways from lists and to numpy import pandas first, which takes a second in every process; hence buffers.
_NUMPY = {pa.int32(): np.int32, pa.int64(): np.int64, pa.uint64(): np.uint64}


def view_numbers(column: pa.Array) -> NDArray[Any]:
    """View the values of a column of numbers where they lie, without a copy."""
    return np.frombuffer(column.buffers()[1], _NUMPY[column.type])[column.offset : column.offset + len(column)]


def make_column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Make a column without nulls of numbers, hashes (`bytes` of 32) or texts."""
    buffers: list[Any]
    if kind in _NUMPY:
        buffers = [np.array(values, _NUMPY[kind])]
    elif kind == HASH:
        buffers = [b"".join(values)]
    else:
        texts = [value.encode() for value in values]
        buffers = [np.cumsum([0, *map(len, texts)], dtype=np.int32), b"".join(texts)]
    return pa.Array.from_buffers(kind, len(values), [None, *map(pa.py_buffer, buffers)])
