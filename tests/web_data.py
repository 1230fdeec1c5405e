"""A real HTTP server on localhost that serves a folder with ranges, and misbehaves as told."""

from __future__ import annotations

import re
import threading
from contextlib import AbstractContextManager
from pathlib import Path

from local_server import LocalHandler, LocalServer, running

FAULTS = (
    "stalls",
    "cuts",
    "busy",
    "overloaded",
    "broken",
    "ignores_range",
    "other_range",
    "flips",
    "hangs_up",
    "empty",
)


class FolderServer(LocalServer):
    """Serves the files of a folder. Of every `every` requests one goes wrong, in the ways of `faults` in turn."""

    def __init__(self, folder: Path) -> None:
        super().__init__(FolderHandler)
        self.folder = folder
        self.faults: tuple[str, ...] = ()
        self.every = 1
        self.delay = 0.0
        self.token: str | None = None
        self.asked: list[tuple[str, str | None]] = []
        self.failed: list[str] = []
        self._lock, self._turn = threading.Lock(), 0

    def next_fault(self) -> str:
        """How this request goes wrong; `good` = not at all."""
        with self._lock:
            self._turn += 1  # not the length of `asked`, to which others may have been added meanwhile
            if not self.faults or self._turn % self.every:
                return "good"
            self.failed.append(self.faults[len(self.failed) % len(self.faults)])
            return self.failed[-1]


class FolderHandler(LocalHandler):
    # ruff: noqa: ARG002 - every fault is called alike
    server: FolderServer
    protocol_version = "HTTP/1.1"

    def respond(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        self.server.release.wait(self.server.delay)
        path, _, query = self.path.partition("?")
        file = self.server.folder / path.lstrip("/")
        if self.server.token is not None and self.server.token not in (query, self.headers.get("Authorization")):
            return self.answer(403, b"who are you?")
        if not file.is_file():
            return self.answer(404, b"not found")
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "bytes=0-")
        data = file.read_bytes()
        start, stop = int(span[1]), min(int(span[2]) + 1 if span[2] else len(data), len(data))
        return getattr(self, self.server.next_fault())(data, start, stop, wanted is not None)

    def part(self, data: bytes, start: int, stop: int, ranged: bool, body: bytes | None = None) -> None:
        """An answer whose head is right; its body may not be."""
        sent = data[start:stop] if body is None else body
        span = {"Content_Range": f"bytes {start}-{stop - 1}/{len(data)}"} if ranged else {}
        length = None if len(sent) == stop - start else stop - start
        self.answer(206 if ranged else 200, sent, length, **span)

    def good(self, data: bytes, start: int, stop: int, ranged: bool) -> None:
        if start >= len(data):
            self.answer(416, b"", Content_Range=f"bytes */{len(data)}")
        else:
            self.part(data, start, stop, ranged)

    def stalls(self, data: bytes, start: int, stop: int, ranged: bool) -> None:
        self.part(data, start, stop, ranged, data[start : (start + stop) // 2])
        self.server.release.wait(30)

    def cuts(self, data: bytes, start: int, stop: int, ranged: bool) -> None:
        self.part(data, start, stop, ranged, data[start : (start + stop) // 2])

    def hangs_up(self, data: bytes, start: int, stop: int, ranged: bool) -> None:
        self.close_connection = True

    def empty(self, data: bytes, start: int, stop: int, ranged: bool) -> None:
        self.part(data, start, stop, ranged, b"")

    def busy(self, data: bytes, start: int, stop: int, ranged: bool) -> None:
        self.answer(429, b"slowly", Retry_After="0")

    def overloaded(self, data: bytes, start: int, stop: int, ranged: bool) -> None:
        self.answer(503, b"later")

    def broken(self, data: bytes, start: int, stop: int, ranged: bool) -> None:
        self.answer(500, b"error")

    def ignores_range(self, data: bytes, start: int, stop: int, ranged: bool) -> None:
        self.answer(200, data)

    def other_range(self, data: bytes, start: int, stop: int, ranged: bool) -> None:
        self.answer(206, data[: stop - start], Content_Range=f"bytes 0-{stop - start - 1}/{len(data)}")

    def flips(self, data: bytes, start: int, stop: int, ranged: bool) -> None:
        self.part(data, start, stop, ranged, bytes([data[start] ^ 1]) + data[start + 1 : stop])


def serve_folder(folder: Path) -> AbstractContextManager[FolderServer]:
    return running(FolderServer(folder))
