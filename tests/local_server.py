"""What real HTTP servers on localhost have in common."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar


class LocalServer(ThreadingHTTPServer):
    """A server on a free port; answers that stall wait for `release`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_) -> None:
        """A client that hangs up is part of the test."""


class LocalHandler(BaseHTTPRequestHandler, ABC):
    """Answers without a log; a body may be shorter than the length that is told."""

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        self.respond()

    @abstractmethod
    def respond(self) -> None:
        """Answer a GET."""

    def answer(self, code: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.close_connection = self.close_connection or length is not None


Server = TypeVar("Server", bound=LocalServer)


@contextmanager
def running(web: Server) -> Iterator[Server]:
    """Serve until the body is done."""
    thread = threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.release.set()
        web.shutdown()
        web.server_close()
        thread.join()
