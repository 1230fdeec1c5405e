from __future__ import annotations

import itertools
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from splits_data import BALANCED, CATALOG, UNIFORM, ids, row, table

from rc2l_bench.config import SplitConfig
from rc2l_bench.data.split_draws import draw, is_drawn, order
from rc2l_bench.data.splits import TrainingImages, split_id
from rc2l_bench.errors import UsageError


def labelled(name: str, config: SplitConfig = UNIFORM, catalog=CATALOG) -> set[str]:
    return set(draw("voc", name, catalog, config).labelled)


@pytest.mark.parametrize("config", [UNIFORM, BALANCED])
def test_drawn_splits_are_nested(config: SplitConfig) -> None:
    names = ["1_500", "1_30", "1_16", "1_8", "1_4", "1_3", "1_2", "full"]
    drawn = [labelled(name, config) for name in names]
    assert all(small < large for small, large in itertools.pairwise(drawn))


@pytest.mark.parametrize(("images", "name", "count"), [
    (10582, "1_16", 662), (10582, "1_8", 1323), (10582, "1_4", 2646), (10582, "1_2", 5291),
    (2975, "1_30", 100), (2975, "1_16", 186), (2975, "1_8", 372), (2975, "1_4", 744), (2975, "1_2", 1488),
    (1464, "1_16", 92), (1464, "1_8", 183), (1464, "1_4", 366), (1464, "1_2", 732), (7, "1_100", 1), (7, "1_1", 7),
])  # fmt: skip
def test_counts_round_up_as_the_published_lists_do(images: int, name: str, count: int) -> None:
    catalog = table(row(identity) for identity in ids(images))
    assert len(labelled(name, catalog=catalog)) == count


def test_a_drawn_split_is_the_same_for_ever() -> None:
    assert draw("voc", "1_16", CATALOG, UNIFORM).id.startswith("25c58b10f138187baba333658874896300c32e50")


def test_the_order_of_the_catalog_does_not_matter() -> None:
    rows = [row(name, pixels=(1, index % 2, index % 7 == 0)) for index, name in enumerate(ids(60))]
    mixed = random.Random(1).sample(rows, len(rows))
    for policy in ("uniform", "balanced"):
        assert order(rows, 3, policy) == order(mixed, 3, policy)


def test_seeds_draw_different_splits_and_a_name_can_carry_one() -> None:
    other = SplitConfig(seed=3, draws="fixed", policy="uniform", held_out=0.25)
    assert labelled("1_16-s3") == labelled("1_16", other) != labelled("1_16")
    assert labelled("1_16-s0") == labelled("1_16")
    assert len(labelled("1_16-s3") & labelled("1_16")) < 20


BY_SEED = UNIFORM.model_copy(update={"draws": "by_seed", "seed": 5})


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_a_seed_trains_on_the_draw_of_its_number(seed: int) -> None:
    own = draw("voc", "1_16", CATALOG, BY_SEED, seed)
    assert own.id == draw("voc", f"1_16-s{5 + seed}", CATALOG, BY_SEED, 99).id
    assert (own.draws, own.provenance["seed"]) == ("by_seed", 5 + seed)
    assert draw("voc", "1_16", CATALOG, UNIFORM, seed).id == draw("voc", "1_16", CATALOG, UNIFORM).id


@pytest.mark.parametrize(
    ("name", "draws"),
    [("1_16", "by_seed"), ("1_16-s3", "fixed"), ("full", "all"), ("1_1", "all"), ("classic_1_4", "by_seed")],
)
def test_a_split_says_what_the_seed_changes_in_it(name: str, draws: str) -> None:
    clean = [row.id for row in CATALOG.of("train")][:40]
    pair = [draw("voc", name, CATALOG, BY_SEED, seed, clean) for seed in (0, 1)]
    assert pair[0].draws == pair[1].draws == draws
    assert (pair[0].id != pair[1].id) == (draws == "by_seed")
    fixed = draw("voc", name, CATALOG, UNIFORM, 1, clean).draws
    assert fixed == ("all" if draws == "all" else "fixed")


@pytest.mark.parametrize("seed", [0, 1])
def test_the_splits_of_one_draw_lie_inside_one_another(seed: int) -> None:
    nested = [set(draw("voc", name, CATALOG, BY_SEED, seed).labelled) for name in ("1_16", "1_8", "1_4", "1_2")]
    assert all(small < large for small, large in itertools.pairwise(nested))


@pytest.mark.parametrize("name", ["1_16", "1_1", "1_30-s12", "full", "1_16-s0"])
def test_names_of_drawn_splits_are_known(name: str) -> None:
    assert is_drawn(name)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name)


@pytest.mark.parametrize(
    "name",
    ["116", "1_0", "1_016", "2_3", "1_", "full-s1", "1_16-s", "1_16-s01", " 1_16", "1_16\n", "Full"],
)
def test_other_names_are_not_drawn(name: str) -> None:
    assert not is_drawn(name)
    with pytest.raises(UsageError, match="not the name of a drawn split"):
        draw("voc", name, CATALOG, UNIFORM)


def test_images_without_mask_are_never_labelled_but_stay_unlabelled() -> None:
    catalog = table([*(row(name) for name in ids(20)), *(row(name, labelled=False) for name in ids(5, "extra_"))])
    full = draw("mine", "full", catalog, UNIFORM)
    assert full.labelled == tuple(ids(20))
    assert (full.unlabelled, full.num_unlabelled) == (None, 5)
    assert full.train == TrainingImages(count=25, ids_sha256=split_id([*ids(20), *ids(5, "extra_")]))
    assert draw("mine", "1_4", catalog, BALANCED).num_unlabelled == 20


def test_balanced_covers_every_class_where_uniform_misses_one() -> None:
    rows = [row(name, pixels=(5, 5, 0)) for name in ids(99)]
    last = order(rows, 0, "uniform")[-1]
    catalog = table(row(r.id, pixels=(5, 4, 1)) if r.id == last else r for r in rows)
    assert draw("voc", "1_30", catalog, UNIFORM).pixels["rare"] == 0
    assert draw("voc", "1_30", catalog, BALANCED).pixels["rare"] == 1
    assert last in labelled("1_99", BALANCED, catalog)


def test_balanced_changes_as_little_as_it_can() -> None:
    rows = [row(name, pixels=(5, 4, 1)) for name in ids(50)]
    assert order(rows, 0, "balanced") == order(rows, 0, "uniform")


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_balanced_is_a_permutation_that_covers_all_classes_early(pixels: list[tuple[int, int, int]]) -> None:
    rows = [row(name, pixels=p) for name, p in zip(ids(len(pixels)), pixels, strict=True)]
    found = order(rows, 0, "balanced")
    assert sorted(found) == ids(len(pixels))
    by_id = {r.id: r for r in rows}
    present = {k for p in pixels for k in range(3) if p[k]}
    assert {k for name in found[:3] for k in range(3) if by_id[name].pixels[k]} == present
