"""Writing a pool into a description: what is there stays, and what turns out to be wrong is taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from folder_data import describe, write_images

from rc2l_bench.data import pool_add
from rc2l_bench.data.pool_add import add_places, check_places, extend_dataset
from rc2l_bench.errors import UsageError

DESCRIPTION = Path("datasets/mine.yaml")


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch) -> Path:
    """A data set of the user's own, and a folder with more images."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path)
    describe("mine")
    (tmp_path / "more").mkdir()
    return tmp_path


def test_a_place_has_to_be_there_unless_it_is_far_away():
    check_places(["more", "https://a.org/x-{0..9}.tar"])
    with pytest.raises(UsageError, match="nowhere: no such file or folder"):
        check_places(["more", "nowhere"])


def test_an_extension_names_the_data_set_and_the_places():
    path = extend_dataset("larger", "mine", ["more"])
    assert (path, yaml.safe_load(path.read_text())) == (
        Path("datasets/larger.yaml"), {"extends": "mine", "pool": ["more"]},
    )  # fmt: skip


def test_an_extension_of_what_is_not_there_is_not_written():
    with pytest.raises(UsageError, match="unknown dataset 'yours'"):
        extend_dataset("larger", "yours", ["more"])
    assert not Path("datasets/larger.yaml").exists()


def test_places_come_to_those_that_are_there_and_none_twice():
    """The description is written as JSON here, where an address would not be read again."""
    for places in (["more"], ["https://a.org/x.tar", "more"]):
        add_places("mine", places)
    assert yaml.safe_load(DESCRIPTION.read_text())["pool"] == ["more", "https://a.org/x.tar"]


def test_a_single_place_becomes_a_list_and_comments_stay():
    DESCRIPTION.write_text("# my words\nextends: shapes\npool: more  # these\n")
    add_places("mine", ["https://a.org/x.tar"])
    text = DESCRIPTION.read_text()
    assert text.startswith("# my words\n")
    assert yaml.safe_load(text)["pool"] == ["more", "https://a.org/x.tar"]


@pytest.mark.parametrize(("name", "reason"), [
    ("voc", "'voc' is built in: name your own, `data add voc-more --extends voc"),
    ("yours", "there is no dataset 'yours'"),
])  # fmt: skip
def test_a_data_set_that_cannot_have_more_is_told(name, reason):
    with pytest.raises(UsageError, match=reason):
        add_places(name, ["more"])


def test_a_stream_has_nothing_beside_it():
    describe("mine", pool={"stream": "https://a.org/x.tar"})
    before = DESCRIPTION.read_bytes()
    with pytest.raises(UsageError, match="is a stream, which has nothing beside it"):
        add_places("mine", ["more"])
    assert DESCRIPTION.read_bytes() == before


def test_a_description_that_turns_out_to_be_wrong_is_as_before(monkeypatch):
    before, found = DESCRIPTION.read_bytes(), []

    def load(name: str) -> None:
        found.append(name)
        if DESCRIPTION.read_bytes() != before:
            raise UsageError("wrong")

    monkeypatch.setattr(pool_add, "load_dataset", load)
    with pytest.raises(UsageError, match="wrong"):
        add_places("mine", ["more"])
    assert DESCRIPTION.read_bytes() == before
    assert found == ["mine", "mine"]
