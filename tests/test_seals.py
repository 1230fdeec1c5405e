"""Documents that carry their own hash: no byte of them changes unseen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rc2l_bench.readers import DamagedFileError
from rc2l_bench.seals import FILES, RECORD, check_files, list_files, read_listed, read_record, seal, unseal

CONTENT = {"a": [1, 2.5], "b": {"c": None}, "ä": "\n"}


@pytest.mark.parametrize("indent", [None, 1, 2])
def test_a_document_is_read_as_it_was_written_and_is_json(indent):
    data = seal(CONTENT, indent)
    assert unseal(data, "x") == CONTENT
    assert {key: value for key, value in json.loads(data).items() if key != "sha256"} == CONTENT


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_is_found(bit):
    data = seal(CONTENT, 2)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        with pytest.raises(DamagedFileError, match=r"^x\.json: "):
            unseal(bytes(changed), "x.json")


@pytest.mark.parametrize("length", [0, 1, 50, 100, -1])
def test_a_document_that_is_cut_off_is_refused(length):
    with pytest.raises(DamagedFileError):
        unseal(seal(CONTENT)[:length], "x")


@pytest.mark.parametrize("data", [b"", b"{}", b'{"a": 1}\n', b"[1]"])
def test_a_document_that_never_had_a_hash_is_told_so(data):
    with pytest.raises(DamagedFileError, match="x: has no hash of its own: cut off, or of an older version: do this"):
        unseal(data, "x", "do this")


def test_a_number_that_is_none_cannot_be_sealed():
    with pytest.raises(ValueError, match="not JSON compliant"):
        seal({"a": float("nan")})


@pytest.fixture
def result(tmp_path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "deep/b").write_bytes(b"")
    (tmp_path / RECORD).write_bytes(seal({"x": 1, FILES: list_files(tmp_path)}))
    return tmp_path


def test_a_record_lists_the_files_beside_it(result):
    content, listed = read_record(result)
    assert content == {"x": 1}
    assert listed == {
        "a": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "deep/b": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    check_files(result, listed)
    assert read_listed(result, "a", listed) == b"abc"


@pytest.mark.parametrize(("name", "text"), [("a", "abd"), ("deep/b", " ")])
def test_a_file_that_changed_is_named(result, name, text):
    listed = read_record(result)[1]
    (result / name).write_text(text)
    with pytest.raises(DamagedFileError, match=f"{name}: has changed since it was written"):
        check_files(result, listed)
    with pytest.raises(DamagedFileError, match=f"{name}: has changed since it was written"):
        read_listed(result, name, listed)


def test_a_file_that_is_gone_is_named(result):
    listed = read_record(result)[1]
    (result / "a").unlink()
    with pytest.raises(DamagedFileError, match="a: is missing"):
        check_files(result, listed)


def test_a_file_that_was_added_is_not_used(result):
    (result / "c").touch()
    with pytest.raises(DamagedFileError, match="c: is not among the run's files"):
        read_listed(result, "c", read_record(result)[1])


@pytest.mark.parametrize("content", [{"x": 1}, {FILES: []}, {FILES: {"a": 1}}])
def test_a_record_without_a_list_is_refused(tmp_path, content):
    (tmp_path / RECORD).write_bytes(seal(content))
    with pytest.raises(DamagedFileError, match="lists no files: do this"):
        read_record(tmp_path, "do this")
