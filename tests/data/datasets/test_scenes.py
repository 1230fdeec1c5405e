from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rc2l_bench.data.datasets import scenes
from rc2l_bench.data.datasets.shapes import Shapes
from rc2l_bench.data.decode import decode_mask


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "raw" / "shapes"
    Shapes().prepare(folder)
    return folder


def all_masks(raw: Path, part: str) -> np.ndarray:
    return np.stack([decode_mask(sample.mask) for sample in Shapes().samples(raw, part)])


def test_an_image_depends_on_its_name_only() -> None:
    together = scenes.generate(["train_0000", "train_0001", "val_0000"])
    alone = scenes.generate(["val_0000"])
    assert np.array_equal(together[0][2], alone[0][0])
    assert np.array_equal(together[1][2], alone[1][0])
    assert not np.array_equal(together[0][0], together[0][1])


def test_every_class_is_in_both_parts_and_the_rarest_is_rare(raw: Path) -> None:
    for part in ("train", "val"):
        masks = all_masks(raw, part)
        assert set(np.unique(masks)) == {*range(6), 255}
        share = [(masks == k).any(axis=(1, 2)).mean() for k in range(6)]
        assert share[0] == 1
        assert share[5] == min(share) < 0.6 * share[1]


def test_objects_have_a_void_border_on_all_sides(raw: Path) -> None:
    for mask in all_masks(raw, "val"):
        for first, second in ((mask[:, :-1], mask[:, 1:]), (mask[:-1], mask[1:])):
            solid = (first != 255) & (second != 255)
            assert np.array_equal(first[solid], second[solid])


def test_a_class_is_a_form_and_a_sector_of_hues() -> None:
    label, form, hue = scenes._draw_kind(scenes._Draws([f"draw_{i}" for i in range(4000)], 8))
    sector = (hue + 1536 // 10) % 1536 * 5 // 1536
    assert set(label) == {1, 2, 3, 4, 5}
    assert np.array_equal(form, label - 1)
    assert np.array_equal(sector, label - 1)


def test_rotations_keep_lengths_exactly() -> None:
    a, b, n = scenes._rotations().T
    assert np.array_equal(a * a + b * b, n * n)
