"""What `pool` may be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from rc2l_bench.data.datasets.pool_config import PoolConfig, StreamConfig

FORM: TypeAdapter[Any] = TypeAdapter(PoolConfig)


def taken(value: object) -> Any:
    return FORM.validate_json(json.dumps(value))


@pytest.mark.parametrize(("value", "places"), [("more", ["more"]), (["a", "b"], ["a", "b"])])
def test_one_place_is_a_list_of_one(value, places):
    assert taken(value) == places
    assert taken({"stream": value}) == StreamConfig(stream=places, shuffle=1000)


@pytest.mark.parametrize("value", [[], 7, [7], {}, {"stream": []}, {"stream": "x", "shuffle": 0}, {"tars": "x"}, None])
def test_what_is_no_pool_is_refused(value):
    with pytest.raises(ValidationError):
        taken(value)
