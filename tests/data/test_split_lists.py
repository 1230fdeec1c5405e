from __future__ import annotations

from pathlib import Path

import pytest
from lists_data import CATALOG, list_checkout
from splits_data import ids

from rc2l_bench.config import SplitConfig
from rc2l_bench.data.split_draws import is_drawn
from rc2l_bench.data.split_import import resolve
from rc2l_bench.data.split_lists import Published, parse, published
from rc2l_bench.errors import BenchError, UsageError

ROOT = Path(__file__).parents[2]
VOC = Published(ids=r"\d{4}_\d{6}", example="2007_000032")
CITY = Published(ids=r"[a-z-]+_\d{6}_\d{6}", example="aachen_000000_000019")
CITIES = ["nowhere_000001_000019", "some-town_000002_000019"]
CONFIG = SplitConfig(seed=0, draws="fixed", policy="uniform", held_out=0.25)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return list_checkout(tmp_path, monkeypatch)


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
