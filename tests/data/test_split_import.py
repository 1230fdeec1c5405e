from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from lists_data import CATALOG, THREE, list_checkout
from splits_data import ids, row, table

from rc2l_bench.config import SplitConfig
from rc2l_bench.data.fetch import Source, fetch
from rc2l_bench.data.split_import import import_list, resolve
from rc2l_bench.data.split_lists import pinned
from rc2l_bench.data.splits import split_id
from rc2l_bench.errors import BenchError, UsageError

ROOT = Path(__file__).parents[2]
CONFIG = SplitConfig(seed=0, draws="fixed", policy="uniform", held_out=0.25)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return list_checkout(tmp_path, monkeypatch)


def test_a_published_list_comes_from_the_mirror_and_is_pinned(checkout: Path) -> None:
    split = resolve("voc", "3", CATALOG, CONFIG)
    assert split.labelled == tuple(ids(3))
    assert (split.unlabelled, split.num_unlabelled) == (None, 17)
    assert split.provenance["repository"] == "nobody/one"
    assert split.provenance["sha256"] == hashlib.sha256(THREE).hexdigest()
    assert split.provenance["verified"] == "by hash"
    (checkout / "mirror/voc-3-one.txt").unlink()
    shutil.rmtree(checkout / "data/lists")
    assert resolve("voc", "3", CATALOG, CONFIG) == split


def test_a_list_is_the_same_for_every_seed(checkout: Path) -> None:
    by_seed = CONFIG.model_copy(update={"draws": "by_seed"})
    pair = [resolve("voc", "3", CATALOG, by_seed, seed) for seed in (0, 1)]
    assert pair[0] == pair[1]
    assert pair[0].draws == "list"


def test_importing_twice_gives_the_same_bytes(checkout: Path) -> None:
    import_list("voc", "3", CATALOG)
    first = (checkout / "splits/voc/3.txt").read_bytes()
    import_list("voc", "3", CATALOG, file=checkout / "mirror/voc-3-one.txt")
    assert (checkout / "splits/voc/3.txt").read_bytes() == first
    assert sorted(path.name for path in (checkout / "splits/voc").iterdir()) == ["3.txt"]


def test_an_alias_can_be_a_drawn_split(checkout: Path) -> None:
    table = checkout / "splits/voc.yaml"
    table.write_text(table.read_text().replace("aliases: {", "aliases: {aug: full, "))
    every = resolve("voc", "aug", CATALOG, CONFIG)
    assert (every.name, every.id) == ("aug", resolve("voc", "full", CATALOG, CONFIG).id)


def test_an_alias_is_the_same_list_under_another_name(checkout: Path) -> None:
    split = resolve("voc", "other_3", CATALOG, CONFIG)
    assert (split.name, split.id) == ("other_3", split_id(ids(3)))
    assert not (checkout / "splits/voc/other_3.txt").exists()
    assert resolve("voc", "other_3", CATALOG, CONFIG) == split


def test_a_changed_list_is_refused_and_not_kept(checkout: Path) -> None:
    (checkout / "mirror/voc-3-one.txt").write_bytes(THREE + b"2099_000009\n")
    with pytest.raises(BenchError, match=r"voc-3-one\.txt: not the released file"):
        import_list("voc", "3", CATALOG)
    kept = checkout / "data/lists/voc/voc-3-one.txt.wrong"
    assert kept.read_bytes() == THREE + b"2099_000009\n"
    with pytest.raises(BenchError, match="but the released file has"):
        import_list("voc", "3", CATALOG, file=checkout / "mirror/voc-3-one.txt")
    assert not (checkout / "splits/voc").exists()
    (checkout / "mirror/voc-3-one.txt").write_bytes(THREE)
    import_list("voc", "3", CATALOG)


def test_the_next_released_file_is_taken_when_the_first_is_out_of_reach(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = checkout / "splits/voc.yaml"
    text = definition.read_text().replace("  one:", "  two: {repository: nobody/two, commit: " + "f" * 40 + "}\n  one:")
    definition.write_text(
        text.replace("files: [{source: one, path: a", "files: [{source: two, path: z}, {source: one, path: a")
    )
    asked = []

    def reach(source: Source, folder: Path) -> Path:
        asked.append(source.url)
        if "nobody/two" in source.url:
            raise BenchError("out of reach")
        return fetch(source, folder)

    monkeypatch.setattr("rc2l_bench.data.split_import.fetch", reach)
    assert import_list("voc", "3", CATALOG).provenance["repository"] == "nobody/one"
    assert asked[0] == f"https://raw.githubusercontent.com/nobody/two/{'f' * 40}/z"


def test_a_mirror_that_does_not_exist_is_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RC2L_BENCH_MIRROR", str(checkout / "gone"))
    with pytest.raises(UsageError, match="no such folder"):
        import_list("voc", "3", CATALOG)


def test_a_list_without_known_hash_is_checked_by_count(checkout: Path) -> None:
    (checkout / "mirror/voc-pairs_2-one.txt").write_bytes(THREE)
    with pytest.raises(BenchError, match="3 images, but list pairs_2 of voc has 2"):
        import_list("voc", "pairs_2", CATALOG, drop_duplicates=True)


def test_an_image_on_both_sides_is_refused_unless_told_to_drop_it(checkout: Path) -> None:
    with pytest.raises(BenchError, match=r"1 image.* '2099_000001': --drop-duplicates"):
        resolve("voc", "pairs_2", CATALOG, CONFIG)
    split = import_list("voc", "pairs_2", CATALOG, drop_duplicates=True)
    assert split.labelled == ("2099_000000", "2099_000001")
    assert split.unlabelled == ("2099_000002", "2099_000003")
    assert resolve("voc", "pairs_2", CATALOG, CONFIG) == split


def test_a_file_alone_is_not_enough_where_unlabelled_images_are_listed_too(checkout: Path) -> None:
    with pytest.raises(UsageError, match=r"--unlabelled b/unlabeled\.txt"):
        import_list("voc", "pairs_2", CATALOG, file=checkout / "mirror/voc-pairs_2-one.txt")


def test_an_own_list_needs_a_file_and_a_free_name(checkout: Path) -> None:
    own = checkout / "own.txt"
    own.write_text("2099_000007\n")
    assert import_list("voc", "mine", CATALOG, file=own).labelled == ("2099_000007",)
    assert resolve("voc", "mine", CATALOG, CONFIG).provenance["kind"] == "own list"
    for name in ("1_16", "full", "../mine", "", "a/b", "mine.unlabelled"):
        with pytest.raises(UsageError):
            import_list("voc", name, CATALOG, file=own)
    with pytest.raises(UsageError, match="no published list 'mone'"):
        import_list("voc", "mone", CATALOG)


def test_a_list_of_own_images_is_read_in_every_form(checkout: Path) -> None:
    own = table([row("my photo"), row("cam1/01"), row("cam2/01"), row("x")], [row("v", "val")])
    text = 'Photos\\my photo.JPG\tmasks\\my photo.png\r\n"cam2/01.png" "m/cam2/01.png"\r\nshot x (2).jpg\r\n'
    (checkout / "own.txt").write_text(text, newline="")
    names = {"photos/shot x (2).jpg": "x", "photos/v.jpg": "v"}
    assert import_list("voc", "mine", own, file=checkout / "own.txt", aliases=names).labelled == (
        "cam2/01",
        "my photo",
        "x",
    )
    (checkout / "own.txt").write_text("photos/v.jpg")
    with pytest.raises(BenchError, match=r"line 1: 'v' is no id of voc"):
        import_list("voc", "mine", own, file=checkout / "own.txt", aliases=names)


def test_a_pinned_list_that_was_edited_is_refused(checkout: Path) -> None:
    import_list("voc", "3", CATALOG)
    path = checkout / "splits/voc/3.txt"
    path.write_text(path.read_text().replace("2099_000002", "2099_000004"))
    with pytest.raises(BenchError, match=r"3\.txt: was changed after the import"):
        pinned("voc", "3")


@pytest.mark.parametrize("name", ["pairs_2.txt", "pairs_2.unlabelled.txt"])
@pytest.mark.parametrize("bit", [0, 5, 7])
def test_no_byte_of_a_pinned_list_changes_unseen(checkout: Path, name: str, bit: int) -> None:
    import_list("voc", "pairs_2", CATALOG, drop_duplicates=True)
    path = checkout / "splits/voc" / name
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
        with pytest.raises(BenchError, match=rf"{name}: "):
            pinned("voc", "pairs_2")


def test_a_list_of_unlabelled_images_cannot_be_lost_or_exchanged_unseen(checkout: Path) -> None:
    import_list("voc", "pairs_2", CATALOG, drop_duplicates=True)
    rest = checkout / "splits/voc/pairs_2.unlabelled.txt"
    before = rest.read_bytes()
    (checkout / "mirror/voc-pairs_2-one-unlabelled.txt").write_text("2099_000004")
    import_list("voc", "pairs_2", CATALOG, file=checkout / "mirror/voc-pairs_2-one.txt",
                unlabelled=checkout / "mirror/voc-pairs_2-one-unlabelled.txt")  # fmt: skip
    rest.write_bytes(before)
    with pytest.raises(BenchError, match="belongs to another list"):
        pinned("voc", "pairs_2")
    rest.unlink()
    with pytest.raises(BenchError, match=r"unlabelled\.txt: is missing, .*pairs_2\.txt goes with it"):
        pinned("voc", "pairs_2")


def test_a_file_name_with_a_line_end_breaks_no_head(checkout: Path) -> None:
    own = checkout / "my\nown\n\n.txt"
    own.write_text("2099_000007\n")
    import_list("voc", "mine", CATALOG, file=own)
    assert resolve("voc", "mine", CATALOG, CONFIG).provenance["file"] == "my own .txt"


def test_the_gate_stands_before_the_pin(checkout: Path) -> None:
    twins = table([row(name, content="same" if name < "2099_000002" else "") for name in ids(20)])
    (checkout / "own.txt").write_text("2099_000000\n")
    with pytest.raises(BenchError, match="share an image by content"):
        import_list("voc", "mine", twins, file=checkout / "own.txt")
    assert not (checkout / "splits/voc").exists()
