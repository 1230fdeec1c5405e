"""A file far away, read from its beginning to its end; when the connection breaks, from where it broke."""

from __future__ import annotations

import io
import time
from typing import IO, Any

import requests
import urllib3

from rc2l_bench.data import remote
from rc2l_bench.data.addresses import is_remote, with_environment, without_secrets
from rc2l_bench.data.download import TEMPORARY, TIMEOUT, reason_of
from rc2l_bench.data.ranges import open_system
from rc2l_bench.errors import BenchError

_CHUNK = 1 << 16


def open_far(address: str) -> IO[bytes]:
    """Open a file for reading in one go: a path, http(s), or whatever fsspec reads. `${NAME}` is filled in.

    Raises:
        OSError: a local file cannot be opened.
        BenchError: nobody can read such an address.
    """
    if not is_remote(address):
        return open(address, "rb")  # noqa: PTH123 - the caller closes it
    if address.startswith(("http://", "https://")):
        return io.BufferedReader(HttpFile(address), _CHUNK)
    system, path = open_system(with_environment(address))
    found: IO[bytes] = system.open(path, "rb")
    return found


class HttpFile(io.RawIOBase):
    """A file behind http(s). Reading raises a BenchError, in one line, when it cannot be continued."""

    def __init__(self, address: str) -> None:
        """Say which file; the connection is made when it is read."""
        self._address, self._at = address, 0
        self._end: int | None = None  # unknown until the server says so; some never do
        self._session = requests.Session()
        self._response: requests.Response | None = None

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - what io asks for
        """Read what comes next; 0 at the end."""
        reason = ""
        for attempt in range(remote.TRIES):
            if attempt:
                self._drop()
                time.sleep(remote.PAUSE * 2 ** (attempt - 1))
            try:
                data = self._next(len(buffer))
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                reason = reason_of(error)
                continue
            if isinstance(data, bytes):
                buffer[: len(data)] = data
                self._at += len(data)
                return len(data)
            reason = data
        raise BenchError(f"{without_secrets(self._address)}: {reason} (tried {remote.TRIES} times)")

    def close(self) -> None:
        """Close the connection."""
        self._drop()
        self._session.close()
        super().close()

    def _next(self, most: int) -> bytes | str:
        """Bytes from the connection, which is made if there is none; or why another try is needed."""
        if self._response is None and (fault := self._connect()):
            return fault
        if self._at == self._end:
            return b""
        assert self._response is not None
        data: bytes = self._response.raw.read1(most, decode_content=False)
        if not data and self._end is not None:
            return f"broke off after {self._at} of {self._end} bytes"
        return data

    def _connect(self) -> str:
        """Ask for the rest of the file; returns what is wrong, if another try may help."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={self._at}-"} if self._at else {})
        response = self._session.get(with_environment(self._address), headers=headers, stream=True, timeout=TIMEOUT)
        code, length = response.status_code, response.headers.get("Content-Length", "")
        wrong = "" if code in (200, 206) else f"answers {code}"
        if code == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {self._at}-"):
            wrong = "answers 206 with another Content-Range than was asked for"
        if wrong:
            response.close()
            if code in TEMPORARY or code == 206:
                return wrong
            raise BenchError(f"{without_secrets(self._address)}: {wrong}")
        skip = self._at if code == 200 else 0
        if length.isdecimal():
            self._end = self._at - skip + int(length)
        while skip:
            skip -= len(response.raw.read(min(skip, _CHUNK), decode_content=False) or self._cut())
        self._response = response
        return ""

    def _cut(self) -> bytes:
        raise urllib3.exceptions.ProtocolError("ended before the place where it broke off")

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
