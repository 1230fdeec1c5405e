from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from splits_data import CATALOG, UNIFORM, ids, row, table

from rc2l_bench.data import splits
from rc2l_bench.data.split_draws import draw
from rc2l_bench.data.splits import assemble, images_with, overlap, split_id
from rc2l_bench.errors import BenchError
from rc2l_bench.readers import DamagedFileError
from rc2l_bench.seals import seal, unseal


def test_the_split_id_depends_on_the_set_only() -> None:
    expected = hashlib.sha256(b"a\nb").hexdigest()
    assert split_id(["b", "a"]) == split_id(["a", "b"]) == expected
    assert split_id(["a"]) != expected


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
    assert data["provenance"] == {
        "kind": "drawn",
        "draws": "fixed",
        "seed": 0,
        "policy": "uniform",
        "of": 1000,
        "rounding": "up",
    }
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
