"""Writing the description of the user's own images: what the texts of options mean, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from folder_data import write_images

from rc2l_bench.data.datasets.folder_add import add_folder, check_name, colours_of, indices_of, listed, values_of
from rc2l_bench.errors import UsageError

PLAIN = {"images": "photos", "masks": "masks", "classes": ["a", "b", "c"], "shares": {"val": 0.2, "test": 0, "seed": 0}}


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch) -> Path:
    """Ten images with masks, in a checkout that is the current folder."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path)
    return tmp_path


def test_a_description_is_written_as_it_was_given_and_its_images_are_counted():
    path, counts, left = add_folder("mine", PLAIN)
    assert path == Path("datasets/mine.yaml")
    assert yaml.safe_load(path.read_text()) == PLAIN
    assert (counts, left) == ({"train": 8, "val": 2}, None)


def test_files_that_are_not_used_are_told():
    Path("photos/notes.txt").touch()
    assert "1 no picture (photos/notes.txt)" in add_folder("mine", PLAIN)[2]


def test_a_description_that_is_wrong_is_told_under_its_name_and_not_written():
    with pytest.raises(UsageError, match=r"^mine\.yaml: "):
        add_folder("mine", PLAIN | {"images": "nowhere"})
    assert not Path("datasets/mine.yaml").exists()


@pytest.mark.parametrize("name", ["mine", "a.b-c_9", "9"])
def test_a_name_that_is_free_has_its_place(name):
    assert check_name(name) == Path(f"datasets/{name}.yaml")


@pytest.mark.parametrize(("name", "reason"), [
    ("", "cannot be the name"), ("../x", "cannot be the name"), (".x", "cannot be the name"), ("a b", "cannot be"),
    ("x\n", "cannot be the name"), ("voc", "there is a dataset 'voc' already: choose another name$"),
    ("taken", "there is a dataset 'taken' already: choose another name, or edit datasets/taken.yaml"),
])  # fmt: skip
def test_a_name_that_is_taken_or_no_name_is_refused(name, reason):
    Path("datasets/taken.yaml").touch()
    with pytest.raises(UsageError, match=reason):
        check_name(name)


@pytest.mark.parametrize(("text", "parts"), [("", []), (" ", []), ("a", ["a"]), (" a, b c ,,d", ["a", "b c", "", "d"])])
def test_a_list_is_parted_at_commas(text, parts):
    assert listed(text) == parts


def test_colours_are_hexadecimal():
    assert colours_of("#ff0000, #00fFa0") == [[255, 0, 0], [0, 255, 160]]


@pytest.mark.parametrize("text", ["ff0000", "#ff000", "#ff00001", "#gg0000", "#ff0000,"])
def test_what_is_no_colour_is_refused(text):
    with pytest.raises(UsageError, match="is not a colour: write it as #rrggbb"):
        colours_of(text)


def test_values_have_classes():
    assert values_of("7=road, 11 = wide field,0=a=b") == {7: "road", 11: "wide field", 0: "a=b"}


@pytest.mark.parametrize("text", ["7", "7=", "=road", "x=road", "-1=road", "7:road"])
def test_what_is_no_value_with_a_class_is_refused(text):
    with pytest.raises(UsageError, match="write 7=road"):
        values_of(text)


def test_indices_are_whole_numbers():
    assert indices_of("11, 12") == [11, 12]
    for text in ("-1", "1.5", "others", "1,,2"):
        with pytest.raises(UsageError, match="write whole numbers from 0 to 255"):
            indices_of(text)
