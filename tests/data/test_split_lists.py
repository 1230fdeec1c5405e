from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from splits_data import ids, row, table
from typer.testing import CliRunner

from pipelines.split import main as stage
from rc2l_bench.cli import split as cli_split
from rc2l_bench.config import SplitConfig
from rc2l_bench.data import catalog
from rc2l_bench.data.fetch import Source, fetch
from rc2l_bench.data.split_draws import is_drawn
from rc2l_bench.data.split_import import import_list, resolve
from rc2l_bench.data.split_lists import Published, parse, pinned, published
from rc2l_bench.data.splits import split_id
from rc2l_bench.errors import BenchError, UsageError

ROOT = Path(__file__).parents[2]
VOC = Published(ids=r"\d{4}_\d{6}", example="2007_000032")
CITY = Published(ids=r"[a-z-]+_\d{6}_\d{6}", example="aachen_000000_000019")
CITIES = ["nowhere_000001_000019", "some-town_000002_000019"]
CATALOG = table([row(name) for name in ids(20)], [row("2099_000090", "val")])
CONFIG = SplitConfig(seed=0, draws="fixed", policy="uniform", held_out=0.25)

YAML = """
ids: '\\d{{4}}_\\d{{6}}'
example: "2007_000032"
clean: "3"
sources:
  one: {{repository: nobody/one, commit: abcdef0123456789abcdef0123456789abcdef01}}
aliases: {{other_3: "3"}}
lists:
  "3":
    labelled: 3
    files: [{{source: one, path: a/labeled.txt, sha256: "{sha}"}}]
  pairs_2:
    labelled: 2
    files: [{{source: one, path: b/labeled.txt, unlabelled: b/unlabeled.txt}}]
"""
THREE = b"2099_000002\n2099_000000\n2099_000001\n"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a data set `voc` of 20 images, and a mirror that holds its lists."""
    monkeypatch.chdir(tmp_path)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("RC2L_BENCH_MIRROR", str(mirror))
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/voc.yaml").write_text(YAML.format(sha=hashlib.sha256(THREE).hexdigest()[:16]))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    catalog.write(CATALOG, tmp_path / "data/catalog/voc.csv")
    (mirror / "voc-3-one.txt").write_bytes(THREE)
    (mirror / "voc-pairs_2-one.txt").write_text("2099_000000\r\n2099_000001")
    (mirror / "voc-pairs_2-one-unlabelled.txt").write_text("2099_000001\r\n2099_000002\r\n2099_000003")
    return tmp_path


def read(text: str | bytes, known: Published = VOC, names: list[str] | None = None) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    return parse(data, "list.txt", known, dict.fromkeys(names or ids(20), True), "voc")


@pytest.mark.parametrize("line", [
    "{0}",
    "JPEGImages/{0}.jpg SegmentationClass/{0}.png",
    "/JPEGImages/{0}.jpg /SegmentationClassAug/{0}.png",
    "JPEGImages/{0}.jpg",
])  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_released_format_of_voc_is_read(line: str, end: str) -> None:
    wanted = ["2099_000003", "2099_000001"]
    assert read(end.join(line.format(name) for name in wanted) + end) == wanted


@pytest.mark.parametrize("line", [
    "leftImg8bit/train/{1}/{0}_leftImg8bit.png",
    "leftImg8bit/train/{1}/{0}_leftImg8bit.png gtFine/train/{1}/{0}_gtFine_labelTrainIds.png",
    "/leftImg8bit/train/{1}/{0}_leftImg8bit.png /gtFine/train/{1}/{0}_gtFine_labelTrainIds.png",
    "/images/train/{0}.png\t/segmentation/train/{0}_gtFine.png",
])  # fmt: skip
def test_every_released_format_of_cityscapes_is_read(line: str) -> None:
    text = "\n".join(line.format(name, name.partition("_")[0]) for name in CITIES)
    assert read(text, CITY, CITIES) == CITIES


def test_a_byte_order_mark_blank_lines_and_a_missing_last_line_end_do_not_matter() -> None:
    assert read(b"\xef\xbb\xbf2099_000001\r\n\r\n2099_000000") == ["2099_000001", "2099_000000"]


def test_ids_of_ones_own_may_have_blanks_and_dots() -> None:
    assert read("my image.v2\n", Published(), ["my image.v2"]) == ["my image.v2"]


@pytest.mark.parametrize(("text", "message"), [
    ("", "list.txt: empty"),
    ("\r\n \n", "list.txt: empty"),
    ("2099_000001\n2099_000055\n", "list.txt, line 2: '2099_000055' is not a training image of voc"),
    ("2099_000001\n\n2099_000001\n", "line 3: '2099_000001' is there twice, first in line 1"),
    ("/images/train/a_000001_000019.png\t/x", "line 1: 'a_000001_000019' is no id of voc (like 2007_000032)"),
    (b"\xff\xfe2\x000\x00", "list.txt: not a text file in UTF-8"),
])  # fmt: skip
def test_a_bad_list_gets_one_line_that_says_what_and_where(text: str | bytes, message: str) -> None:
    with pytest.raises(BenchError) as info:
        read(text)
    assert message in str(info.value)
    assert "\n" not in str(info.value)


def test_an_image_without_mask_cannot_be_labelled() -> None:
    with pytest.raises(BenchError, match="line 1: 'a' has no mask"):
        parse(b"a\n", "list.txt", Published(), {"a": False}, "mine")


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


def test_the_stage_writes_drawn_and_published_splits(checkout: Path) -> None:
    for name, count in (("1_4", 5), ("3", 3)):
        out = checkout / f"data/splits/voc/{name}.json"
        stage("voc", name, 0, Path("data/catalog/voc.csv"), out)
        assert len(json.loads(out.read_text())["labelled"]) == count
        stage("voc", name, 1, Path("data/catalog/voc.csv"), checkout / "other.json")
        assert (json.loads(out.read_text())["id"] != json.loads((checkout / "other.json").read_text())["id"]) == (
            name == "1_4"
        )
    with pytest.raises(SystemExit) as info:
        stage("voc", "others_3", 0, Path("data/catalog/voc.csv"), checkout / "x.json")
    assert info.value.code == 2
    assert not (checkout / "x.json").exists()


def test_a_classic_split_is_drawn_from_the_clean_masks_and_leaves_all_others_unlabelled(checkout: Path) -> None:
    half = resolve("voc", "classic_1_2", CATALOG, CONFIG)
    whole = resolve("voc", "3", CATALOG, CONFIG)
    assert len(half.labelled) == 2
    assert set(half.labelled) < set(whole.labelled)
    assert len(half.labelled) + half.num_unlabelled == 20
    assert half.provenance["of"] == 3
    assert set(resolve("voc", "classic_1_3", CATALOG, CONFIG).labelled) < set(half.labelled)


def test_a_classic_split_needs_a_data_set_that_knows_its_clean_masks(checkout: Path) -> None:
    with pytest.raises(UsageError, match="mine has no list of images with clean masks"):
        resolve("mine", "classic_1_2", CATALOG, CONFIG)


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> tuple[int, str]:
    monkeypatch.setattr("rc2l_bench.data.datasets.registry.names", lambda: ["voc"])
    monkeypatch.setenv("COLUMNS", "160")
    result = CliRunner().invoke(cli_split.app, list(args))
    return result.exit_code, " ".join(result.output.split())


def test_describe_shows_classes_and_the_nearest_published_split(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = call(monkeypatch, "describe", "voc", "1_8")
    assert code == 0
    assert "3 labelled, 17 unlabelled" in text
    assert "nearest published split by count: 3" in text
    assert "house 12 40.0 % 3" in text


def test_compare_shows_overlaps_and_clean_masks(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "own.txt").write_text("2099_000002\n2099_000003\n")
    assert call(monkeypatch, "import", "voc", "mine", "own.txt")[0] == 0
    assert "split import voc 3" in call(monkeypatch, "compare", "voc", "mine", "full")[1]
    code, text = call(monkeypatch, "compare", "voc", "mine", "3")
    assert code == 0
    assert "mine 2 2 (100.0 %) 1 (50.0 %) 1 (50.0 %) 3 3 1 (33.3 %) 3 (100.0 %) 3 (100.0 %)" in text


def test_outside_of_a_checkout_nothing_is_made(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "elsewhere").mkdir()
    monkeypatch.chdir(checkout / "elsewhere")
    for command in (["make", "voc", "1_4"], ["describe", "voc", "1_4"], ["import", "voc", "3"]):
        code, text = call(monkeypatch, *command)
        assert code == 2
        assert "there is no dvc.yaml here" in text
    assert list((checkout / "elsewhere").iterdir()) == []


def test_make_writes_the_split_file_and_errors_are_one_line(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "make", "voc", "1_4-s2")[0] == 0
    assert (checkout / "data/splits/voc/1_4-s2.json").is_file()
    code, _ = call(monkeypatch, "make", "vok", "1_4")
    assert code == 2
    assert call(monkeypatch, "compare", "voc", "1_4")[0] == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("ids: '", "ids: '(", r"voc\.yaml: ids: '\(.*' is no regular expression"),
     ("source: one, path: a", "source: won, path: a", "lists.3: there is no source 'won'; did you mean 'one'")],
)  # fmt: skip
def test_a_wrong_definition_is_one_line(checkout: Path, old: str, new: str, message: str) -> None:
    path = checkout / "splits/voc.yaml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UsageError, match=message) as info:
        published("voc")
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("dataset", ["voc", "cityscapes"])
def test_the_definitions_hold_together(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    known = published(dataset)
    assert all(target in known.lists or is_drawn(target) for target in known.aliases.values())
    assert not known.aliases.keys() & known.lists.keys()
    assert not any(is_drawn(name) for name in [*known.lists, *known.aliases])
    files = [file for entry in known.lists.values() for file in entry.files]
    assert {file.source for file in files} == set(known.sources)
    assert len({(file.source, file.path) for file in files}) == len(files)
    hashes = [file.sha256 for file in files if file.sha256]
    assert len(set(hashes)) == len(hashes) == {"voc": 11, "cityscapes": 5}[dataset]
