"""What an entry of `pool` stands for, and what nobody should write there."""

from __future__ import annotations

import pytest
from shards_data import make_shards
from tar_data import image_tar

from rc2l_bench.data.pool_sources import resolve
from rc2l_bench.errors import UsageError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tars/a-10.tar", "tars/a-9.tar", "tars/deep/b.tar"):
        image_tar(tmp_path / name, range(2))
    (tmp_path / "photos").mkdir()
    return tmp_path


def test_folders_tars_and_shards_are_told_apart(here):
    make_shards(here / "packed", 3)
    kinds = {place: resolve(place).kind for place in ("photos", "packed", "tars/*.tar", "https://a.org/x/")}
    assert kinds == {"photos": "files", "packed": "shards", "tars/*.tar": "tars", "https://a.org/x/": "shards"}


def test_tars_are_named_from_the_folder_that_they_share():
    found = resolve("tars/{a-*,deep/b}.tar")
    assert (found.base, found.names) == ("tars", ("a-10.tar", "a-9.tar", "deep/b.tar"))
    far = resolve("https://a.org/set/{x/1,y/2}.tar?sig=${KEY}")
    assert (far.base, far.names) == ("https://a.org/set/?sig=${KEY}", ("x/1.tar", "y/2.tar"))
    assert far.text == "https://a.org/set/{x/1,y/2}.tar"


def test_a_list_is_made_anew_when_a_file_changes_and_only_then(here):
    before = resolve("tars/a-*.tar").key
    assert resolve("tars/a-*.tar").key == before != resolve("tars/a-9.tar").key
    image_tar(here / "tars/a-9.tar", range(3))
    assert resolve("tars/a-*.tar").key != before


@pytest.mark.parametrize(("text", "reason"), [
    ("nowhere/*.tar", "nowhere/.*: no such file or folder"),
    ("tars/a-{9..11}.tar", r"tars/a-11\.tar: no such file"),
    ("tars/x.tar.gz", "images inside a compressed tar have no places"),
    ("https://me:pw@a.org/x.tar", r"https://a\.org/x\.tar: holds a user or a password"),
    ("https://a.org/{1..2000000}.tar", "stands for 2,000,000 files, at most 1,000,000"),
])  # fmt: skip
def test_what_cannot_be_is_told_without_secrets(text, reason):
    with pytest.raises(UsageError, match=reason) as error:
        resolve(text)
    assert "pw" not in str(error.value)
