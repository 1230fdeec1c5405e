from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from splits_data import ids, row, table

from rc2l_bench.config import SplitConfig
from rc2l_bench.data import splits
from rc2l_bench.data.splits import (
    TrainingImages,
    assemble,
    draw,
    images_with,
    is_drawn,
    order,
    overlap,
    split_id,
)
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.readers import DamagedFileError
from rc2l_bench.seals import seal, unseal

UNIFORM = SplitConfig(seed=0, policy="uniform", held_out=0.25)
BALANCED = SplitConfig(seed=0, policy="balanced", held_out=0.25)
CATALOG = table(row(name) for name in ids(1000))


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
    other = SplitConfig(seed=3, policy="uniform", held_out=0.25)
    assert labelled("1_16-s3") == labelled("1_16", other) != labelled("1_16")
    assert labelled("1_16-s0") == labelled("1_16")
    assert len(labelled("1_16-s3") & labelled("1_16")) < 20


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


def test_the_split_id_depends_on_the_set_only() -> None:
    expected = hashlib.sha256(b"a\nb").hexdigest()
    assert split_id(["b", "a"]) == split_id(["a", "b"]) == expected
    assert split_id(["a"]) != expected


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


def test_pixels_and_images_of_each_class_are_counted() -> None:
    catalog = table([row("a", pixels=(6, 4, 0)), row("b", pixels=(9, 0, 1)), row("c", pixels=(10, 0, 0))])
    split = assemble("mine", "two", catalog, ["b", "a"], None, {})
    assert split.pixels == {"ground": 15, "house": 4, "rare": 1}
    assert images_with(split, catalog) == {"ground": 2, "house": 1, "rare": 1}


def test_overlap_counts_shared_labelled_images() -> None:
    first, second = (assemble("voc", n, CATALOG, part, None, {}) for n, part in (("a", ids(4)), ("b", ids(6)[2:])))
    assert overlap([first, second]) == [[4, 2], [2, 4]]


def test_a_split_whose_labels_are_all_ignored_is_refused() -> None:
    catalog = table([row("a", pixels=(0, 0, 0)), row("b")])
    with pytest.raises(BenchError, match="split x: every pixel of its 1 masks is ignored"):
        assemble("mine", "x", catalog, ["a"], None, {})


@pytest.mark.parametrize(("labels", "rest"), [(["nope"], None), (["bare"], None), (["a"], ["nope"])])
def test_only_training_images_can_be_in_a_split(labels: list[str], rest: list[str] | None) -> None:
    catalog = table([row("a"), row("bare", labelled=False)])
    with pytest.raises(BenchError, match="is not a training image"):
        assemble("mine", "x", catalog, labels, rest, {})


def test_a_written_split_says_all(tmp_path: Path) -> None:
    split = draw("voc", "1_100", CATALOG, UNIFORM)
    splits.write(split, tmp_path / "deep" / "1_100.json")
    data = json.loads((tmp_path / "deep" / "1_100.json").read_text())
    keys = [
        "dataset",
        "split",
        "id",
        "unlabelled_id",
        "labelled",
        "unlabelled",
        "train",
        "pixels",
        "provenance",
        "sha256",
    ]
    assert list(data) == keys
    assert data["id"] == split_id(data["labelled"])
    assert (data["unlabelled"], data["unlabelled_id"]) == (None, split.unlabelled_id)
    assert data["train"] == {"count": 1000, "ids_sha256": split_id(ids(1000))}
    assert data["provenance"] == {"kind": "drawn", "seed": 0, "policy": "uniform", "of": 1000, "rounding": "up"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["1_100.json"]


def test_a_split_is_read_as_it_was_written(tmp_path: Path) -> None:
    split = draw("voc", "1_100", CATALOG, UNIFORM)
    splits.write(split, tmp_path / "x.json")
    assert splits.read(tmp_path / "x.json") == split


def test_a_split_that_is_there_already_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    split = draw("voc", "1_100", CATALOG, UNIFORM)
    splits.write(split, path)
    before = path.stat().st_ino
    splits.write(split, path)
    assert path.stat().st_ino == before
    splits.write(draw("voc", "1_50", CATALOG, UNIFORM), path)
    assert path.stat().st_ino != before


@pytest.mark.parametrize("bit", [0, 5, 7])
def test_no_byte_of_a_split_changes_unseen(tmp_path: Path, bit: int) -> None:
    path = tmp_path / "x.json"
    splits.write(assemble("voc", "x", CATALOG, ids(3), ids(9)[3:], {"kind": "own"}), path)
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
        with pytest.raises(DamagedFileError, match=r"x\.json: .*: delete it and run the stages again"):
            splits.read(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"labelled": "a"}, "labelled: Input should be a valid list"), ({"labelled": ["a"]}, "do not have the hashes"),
     ({"unlabelled": ["a"]}, "do not have the hashes"), ({"pixels": {"a": 0.5}}, "pixels.a"),
     ({"more": 1}, "more: Extra inputs")],
)  # fmt: skip
def test_a_split_that_was_written_wrong_is_one_line(tmp_path: Path, change: dict, reason: str) -> None:
    path = tmp_path / "x.json"
    splits.write(draw("voc", "1_100", CATALOG, UNIFORM), path)
    path.write_bytes(seal(unseal(path.read_bytes(), path) | change))
    with pytest.raises(DamagedFileError, match=reason) as caught:
        splits.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{}", '{"dataset": "vo'])
def test_what_is_no_split_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DamagedFileError, match=r"x\.json: has no hash of its own"):
        splits.read(tmp_path / "x.json")


def test_both_sides_of_a_split_have_an_identity() -> None:
    split = assemble("voc", "x", CATALOG, ids(3), ids(9)[3:], {})
    other = assemble("voc", "x", CATALOG, ids(3), ids(10)[4:], {})
    assert len(split.unlabelled) == len(other.unlabelled)
    assert split.id == other.id
    assert split.unlabelled_id == split_id(ids(9)[3:])
    assert split.unlabelled_id != other.unlabelled_id


def test_a_side_that_is_the_rest_is_not_a_list_and_depends_on_all_training_images() -> None:
    rest = assemble("voc", "x", CATALOG, ids(3), None, {})
    listed = assemble("voc", "x", CATALOG, ids(3), ids(1000)[3:], {})
    assert (listed.unlabelled, listed.unlabelled_id) == (None, rest.unlabelled_id)
    assert rest.num_unlabelled == 997
    fewer = assemble("voc", "x", table([row(name) for name in ids(999)]), ids(3), None, {})
    assert (fewer.id, fewer.unlabelled_id != rest.unlabelled_id) == (rest.id, True)
    assert assemble("voc", "x", CATALOG, ids(4), None, {}).unlabelled_id != rest.unlabelled_id
