"""The user's own images: what is found, how parts are drawn, what masks may be, and one line for every mistake."""

from __future__ import annotations

import pytest
from folder_data import RAW, describe, write_images

from rc2l_bench.data.datasets.registry import load_dataset, names
from rc2l_bench.errors import UsageError


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """Ten images with masks, in a checkout that is the current folder."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path)
    return tmp_path


def test_a_description_in_the_checkout_is_a_dataset_of_that_name():
    describe("mine")
    assert "mine" in names()
    load_dataset("mine").prepare(RAW)
    assert load_dataset("mine").meta() == {
        "name": "mine",
        "classes": ["a", "b", "c"],
        "palette": [[0, 0, 0], [230, 159, 0], [86, 180, 233]],
        "canvas": [12, 16],
    }


@pytest.mark.parametrize("name", ["../mine", "mine/x", "", ".mine", "nothing"])
def test_an_unknown_name_is_wrong_use_and_no_path(name):
    describe("mine")
    with pytest.raises(UsageError, match="unknown dataset"):
        load_dataset(name)


def test_a_near_miss_is_suggested():
    describe("mine")
    with pytest.raises(UsageError, match="did you mean 'mine'"):
        load_dataset("mime")
