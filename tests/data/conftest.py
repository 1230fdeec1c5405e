"""A server of one file for the tests of this room, which are in a hurry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fetch_data import DATA, Web, serve

from rc2l_bench.data import download
from rc2l_bench.data.fetch import MIRROR


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a server waits for a moment, and there is no mirror."""
    monkeypatch.setattr(download, "TIMEOUT", (2.0, 0.4))
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.delenv(MIRROR, raising=False)


@pytest.fixture
def web() -> Iterator[Web]:
    """Serves one archive, in the way that a test says."""
    with serve(DATA) as server:
        yield server
