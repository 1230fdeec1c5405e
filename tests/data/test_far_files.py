"""Files far away from beginning to end: what arrives is what lies there, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from web_data import FAULTS, FolderServer, serve_folder

from rc2l_bench.data import far_files, remote
from rc2l_bench.data.far_files import open_far
from rc2l_bench.errors import BenchError

DATA = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def web(tmp_path, monkeypatch) -> Iterator[FolderServer]:
    (tmp_path / "file").write_bytes(DATA)
    monkeypatch.setattr(far_files, "TIMEOUT", (2.0, 0.3))
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    with serve_folder(tmp_path) as server:
        yield server


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "flips"])
def test_no_fault_changes_what_is_read(web, fault):
    web.faults = ("cuts", fault, "good")
    with open_far(f"{web.url}/file") as file:
        assert file.read() == DATA
    assert fault in web.failed


def test_what_fsspec_knows_is_read_by_it(web, tmp_path):
    for address in (str(tmp_path / "file"), f"file://{tmp_path}/file"):
        with open_far(address) as file:
            assert file.read() == DATA


@pytest.mark.parametrize(
    ("path", "token", "reason"),
    [
        ("nothing", None, "answers 404"),
        ("file", "other", "answers 403"),
        ("file", None, r"answers 503 \(tried 5 times\)"),
    ],
)
def test_it_gives_up_in_one_line_without_secrets(web, path, token, reason):
    web.token = token
    web.faults = ("overloaded",)
    with (
        pytest.raises(BenchError, match=rf"^{web.url}/{path}: {reason}$"),
        open_far(f"{web.url}/{path}?key=abc") as file,
    ):
        file.read()
