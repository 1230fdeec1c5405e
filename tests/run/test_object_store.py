"""What a store beyond a folder says when it cannot be used. What it does is asked in test_far_store.py."""

from __future__ import annotations

import errno

import pytest
import s3_data

from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.run.object_store import VARIABLE, FsspecStore, open_store


def test_without_the_variable_there_is_no_store(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert open_store() is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere/at/all", r"nowhere/at/all: no such folder: make it once, or mount what holds it"),
        ("https://example.org/x?key=abc", r"https://example\.org/x: cannot be written to"),
        ("nonsense://x", r"nonsense://…: "),
        ("s3://me:word@bucket/x", r"s3://bucket/x/?: holds a user or a password"),
    ],
)
def test_what_cannot_be_a_store_is_told_in_one_line(monkeypatch, text, said):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match=said) as caught:
        open_store()
    assert "\n" not in str(caught.value)
    assert "word" not in str(caught.value).replace("password", "")


def test_a_bucket_that_is_not_there_is_told(s3):
    with pytest.raises(BenchError, match=r"RC2L_BENCH_STORE: s3://none: FileNotFoundError: .*bucket does not exist"):
        FsspecStore("s3://none").write("f/a", b"x")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(f"Access Denied for {s3_data.SECRET}"), "Access Denied for …: check the credentials"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (TimeoutError("too slow\nby far"), "TimeoutError: too slow by far"),
    ],
)
def test_what_a_file_system_says_is_one_line_without_secrets(monkeypatch, error, said):
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_data.SECRET)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", fail)
    with pytest.raises(BenchError, match=said) as caught:
        FsspecStore("memory://store").write("f/a", b"x")
    assert s3_data.SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
