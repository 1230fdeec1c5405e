from __future__ import annotations

import pytest
import tiny_data

from rc2l_bench.config import Views


@pytest.mark.parametrize("change", [{"boxes": 0}, {"boxes": 9}, {"area": [0.0, 1.5]}, {"area": [0.5, 0.2]},
                                    {"ratio": [0, 1]}, {"ratio": [2.0, 0.5]}, {"probability": 2}])  # fmt: skip
def test_absurd_boxes_are_refused(change):
    with pytest.raises(ValueError, match="validation error"):
        tiny_data.views(**change)


def test_there_are_at_most_four_strong_views():
    with pytest.raises(ValueError, match="less than or equal to 4"):
        tiny_data.views(strong=5)
    assert isinstance(tiny_data.views(strong=4), Views)
