"""Lines of lists as people write them, and the image that each of them names."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rc2l_bench.data.image_lists import Names, canonical, read_lines
from rc2l_bench.errors import BenchError

IDS = ["a1", "a2", "my photo", "v1.2", "Straße é", "sub/b1", "other/b1", "2007_000032", "aachen_000000_000019"]


def named(line: str, ids: list[str] = IDS, aliases: dict[str, str] | None = None) -> str | None:
    return Names(ids, aliases).of_line(line, "list.txt, line 1")


@pytest.mark.parametrize(
    ("line", "identity"),
    [
        ("a1", "a1"),
        ("  a1\t", "a1"),
        ("a1.jpg", "a1"),
        ("a1.JPG", "a1"),
        ("a1.Jpeg", "a1"),
        ("./a1.png", "a1"),
        ("/images/a1.png", "a1"),
        ("C:\\data\\images\\a1.png", "a1"),
        ("images\\a1.jpg masks\\a1.png", "a1"),
        ("images/a1.jpg masks/a2.png", "a1"),
        ("images/a1.jpg\tmasks/a1_mask.png", "a1"),
        ("images/a1.jpg,masks/a1_mask.png", "a1"),
        ("images/a1.jpg; masks/a1_mask.png", "a1"),
        ("images/a1 masks/a1", "a1"),
        ("my photo", "my photo"),
        ("my photo.jpg", "my photo"),
        ("holiday pictures/my photo.JPG", "my photo"),
        ("holiday pictures/my photo.jpg masks/my photo.png", "my photo"),
        ('"holiday pictures/my photo.jpg" "masks/my photo.png"', "my photo"),
        ("photos/my photo", "my photo"),
        ("v1.2", "v1.2"),
        ("images/v1.2.png", "v1.2"),
        ("images/Straße é.png", "Straße é"),
        ("sub/b1.png", "sub/b1"),
        ("data/other/b1.png masks/other/b1.png", "other/b1"),
        ("sub\\b1.png", "sub/b1"),
        ("JPEGImages/2007_000032.jpg SegmentationClass/2007_000032.png", "2007_000032"),
        ("leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png gtFine/train/x.png", "aachen_000000_000019"),
        ("b1.png", None),
        ("a3", None),
        ("a1x.jpg", None),
    ],
)
def test_a_line_names_an_image(line, identity):
    assert named(line) == identity


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_names_compare_in_one_form_of_unicode(form):
    assert named(f"images/{unicodedata.normalize(form, 'Straße é')}.png") == "Straße é"


def test_a_file_may_be_named_where_the_id_is_only_a_part_of_its_name():
    aliases = {"photos/x_p0_photo.jpg": "p0", "photos/x_p1_photo.jpg": "p1"}
    assert named("x_p1_photo.jpg", ["p0", "p1"], aliases) == "p1"
    assert named("photos/x_p0_photo.jpg masks/x_p0.png", ["p0", "p1"], aliases) == "p0"


def test_a_name_that_several_files_have_is_none():
    aliases = {"cam1/x_0001.png": "cam1/0001", "cam2/x_0001.png": "cam2/0001"}
    ids = list(aliases.values())
    assert named("x_0001.png", ids, aliases) is None
    assert named("cam2/x_0001.png", ids, aliases) == "cam2/0001"


def test_a_line_that_may_be_two_images_is_not_guessed():
    with pytest.raises(
        BenchError, match=r"list\.txt, line 1: 'sub/my photo' may be 'my' or 'my photo': write ids alone"
    ):
        named("sub/my photo", ["my", "my photo"])


LETTERS = st.characters(codec="ascii", exclude_characters='/\\,;"', categories=["L", "N", "P", "S"])


@given(st.lists(st.text(LETTERS, min_size=1, max_size=9), min_size=1, max_size=5, unique=True))
def test_every_id_names_itself(ids):
    names = Names(ids)
    for identity in ids:
        assert names.of_line(identity, "x") == identity


@pytest.mark.parametrize(
    ("line", "name"),
    [("images/b.JPG masks/b.png", "b"), ("x\\y\\z", "z"), ("q", "q"), ("my file.jpg", "my file")],
)
def test_what_an_unknown_line_is_called_in_messages(line, name):
    assert canonical(line) == name


def test_lines_keep_their_numbers_whatever_ends_them():
    assert read_lines("\ufeffa\r\n\r\n b \r\nc".encode(), "x") == [(1, "a"), (3, "b"), (4, "c")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x: empty"),
        (b" \r\n", "x: empty"),
        (b"\xff\xfea", "x: not a text file in UTF-8"),
        (b"a\n" + b"b," * 5000, "x, line 2: longer than 8192 characters"),
    ],
)
def test_what_is_no_list_is_refused(data, message):
    with pytest.raises(BenchError, match=message):
        read_lines(data, "x")
