"""A real server of the S3 protocol on localhost, and a way to it that can break in the middle."""

from __future__ import annotations

import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

SERVER = """
import sys
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
SECRET = "the-secret-of-this-test"


@contextmanager
def serving() -> Iterator[int]:
    """The port of a server without buckets."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


def settings(port: int) -> dict[str, str]:
    """The environment of a client."""
    return {
        "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """The port of a server with an empty bucket."""
    s3fs = pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with serving() as port, pytest.MonkeyPatch.context() as patch:
        for name, value in settings(port).items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        patch.undo()
        yield port


@pytest.fixture
def s3(s3_port: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Address of an empty place for this test; the environment leads there."""
    for name, value in settings(s3_port).items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/{request.node.originalname}"


class Relay(socketserver.ThreadingTCPServer):
    """Passes bytes on to a port, until a connection has sent so many; then it stalls, and says so by `stalled`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, most: int) -> None:
        super().__init__(("127.0.0.1", 0), _Pipe)
        self.to, self.most, self.stalled = port, most, threading.Event()


class _Pipe(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        relay = self.server
        assert isinstance(relay, Relay)
        with socket.create_connection(("127.0.0.1", relay.to)) as far:
            threading.Thread(target=_copy, args=(far, self.request), daemon=True).start()
            sent = 0
            while sent < relay.most and (data := self.request.recv(1 << 14)):
                far.sendall(data)
                sent += len(data)
            if sent >= relay.most:
                relay.stalled.set()
                while self.request.recv(1 << 14):  # to nowhere, until the client is gone
                    pass


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 14):
            target.sendall(data)
    except OSError:  # one of the two has gone
        return


@contextmanager
def relaying(most: int) -> Iterator[tuple[Relay, dict[str, str]]]:
    """A relay to the server of this environment, and the environment of a client of it."""
    port = int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])
    with Relay(port, most) as relay:
        thread = threading.Thread(target=relay.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield relay, settings(relay.server_address[1])
        relay.shutdown()
        thread.join()
