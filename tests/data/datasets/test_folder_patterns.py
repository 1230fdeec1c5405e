"""Which files a folder or a glob of a user names."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from rc2l_bench.data.datasets import folder_patterns
from rc2l_bench.data.datasets.folder_patterns import Pattern, StarText, lies_under
from rc2l_bench.errors import UsageError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def found(text: str) -> dict[str, StarText]:
    pattern = Pattern(text, "images")
    matches = {path.as_posix(): pattern.match(path) for path in pattern.files()}
    return {path: match for path, match in matches.items() if match is not None}


def names(text: str) -> dict[str, str]:
    return {path: match.name for path, match in found(text).items()}


def test_a_folder_means_all_files_in_it_and_none_in_its_folders():
    touch("p/a.png", "p/b.JPG", "p/sub/c.png")
    assert names("p") == names("p/*") == {"p/a.png": "a", "p/b.JPG": "b"}


def test_a_suffix_is_compared_without_case():
    touch("p/a.jpg", "p/b.JPG", "p/c.Jpg", "p/d.png")
    assert names("p/*.jpg") == names("p/*.JPG") == {"p/a.jpg": "a", "p/b.JPG": "b", "p/c.Jpg": "c"}


def test_names_are_compared_with_case():
    touch("p/a_mask.png", "p/b_MASK.png")
    assert names("p/*_mask.png") == {"p/a_mask.png": "a"}


def test_only_the_star_is_special():
    touch("p/a[1].png", "p/a1.png", "p/b?.png", "p/bx.png", "p/(c)+.png", "q[0]/a.png")
    assert names("p/*[1].png") == {"p/a[1].png": "a"}
    assert names("p/*?.png") == {"p/b?.png": "b"}
    assert names("p/(*)+.png") == {"p/(c)+.png": "c"}
    assert names("q[0]") == {"q[0]/a.png": "a"}


def test_two_stars_are_any_number_of_folders():
    touch("p/a.png", "p/x/b.png", "p/x/y/c.png", "p/x/y/d.txt")
    assert names("p/**/*.png") == {"p/a.png": "a", "p/x/b.png": "b", "p/x/y/c.png": "c"}
    assert [match.whole for match in found("p/**/*.png").values()] == ["a", "x/b", "x/y/c"]


def test_a_star_in_a_folder_is_one_folder():
    touch("p/cam1/img/0001.png", "p/cam2/img/0001.png", "p/cam2/other/0001.png", "p/img/0001.png")
    assert [match.whole for match in found("p/cam*/img/*.png").values()] == ["1/0001", "2/0001"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_names_compare_in_one_form_of_unicode_in_folders_and_files(form, written):
    touch(unicodedata.normalize(form, "Fotos für é/ä_1.png"))
    (match,) = found(unicodedata.normalize(written, "Fotos für é/ä_*.png")).values()
    assert match.name == "1"


def test_the_tilde_is_the_home_folder(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    touch("home/p/a.png")
    assert names("~/p/*") == {(here / "home/p/a.png").as_posix(): "a"}


def test_absolute_and_parent_folders_are_folders_too(here, monkeypatch):
    touch("p/a.png", "checkout/x")
    monkeypatch.chdir(here / "checkout")
    assert names("../p/*") == {"../p/a.png": "a"}
    assert names(str(here / "p")) == {str(here / "p/a.png"): "a"}


def test_hidden_files_and_folders_are_not_named():
    touch("p/.a.png", "p/._a.png", "p/.git/b.png", "p/c.png")
    assert names("p/**/*") == {"p/c.png": "c"}


def test_links_that_lead_round_in_a_circle_come_to_an_end(here):
    touch("p/x/a.png", "q/b.png")
    (here / "p/x/up").symlink_to(here / "p")
    (here / "p/q").symlink_to(here / "q")
    (here / "q/p").symlink_to(here / "p")
    assert sorted(names("p/**/*").values()) == ["a", "b"]


def test_a_name_that_is_no_text_is_found(here):
    Path(os.fsdecode(b"p")).mkdir()
    Path(os.fsdecode(b"p/\xe9.png")).touch()
    assert list(names("p").values()) == [os.fsdecode(b"\xe9")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q", "images: q: no such folder"),
        ("q/*", "images: q: no such folder"),
        ("p/a.png", "images: p/a.png: no such folder"),
        ("p*/a.png", r"images: 'p\*/a.png': the file name needs exactly one \*"),
        ("p/*_*.png", r"needs exactly one \*"),
    ],
)
def test_a_pattern_that_names_nothing_is_wrong_use(text, message):
    touch("p/a.png")
    with pytest.raises(UsageError, match=message):
        Pattern(text, "images")


def test_a_folder_of_too_many_files_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(folder_patterns, "MOST_FILES", 5)
    touch(*(f"p/{number}.png" for number in range(6)))
    with pytest.raises(UsageError, match="more than 5 files under p: name a folder that holds the images alone"):
        list(Pattern("p", "images").files())


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("p", {"p/a.png", "p/x/b.png", "p/x/y/c_mask.PNG"}),
        ("p/x", {"p/x/b.png", "p/x/y/c_mask.PNG"}),
        ("p/a.png", {"p/a.png"}),
        ("p/**/*_mask.png", {"p/x/y/c_mask.PNG"}),
        ("p/*/y", {"p/x/y/c_mask.PNG"}),
        ("**/b.png", {"p/x/b.png"}),
        ("p/*", {"p/a.png", "p/x/b.png", "p/x/y/c_mask.PNG"}),
        ("q", set()),
        ("p/a", set()),
    ],
)
def test_what_lies_under_a_glob_or_a_folder_that_it_names(text, inside):
    files = ["p/a.png", "p/x/b.png", "p/x/y/c_mask.PNG"]
    assert {path for path in files if lies_under([text])(Path(path))} == inside


def test_nothing_lies_under_no_glob():
    assert not lies_under([])(Path("p/a.png"))
