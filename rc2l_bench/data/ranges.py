"""Pieces of files far away, many at a time: HTTP by this module, everything else (s3, gs, hf, …) by fsspec."""

from __future__ import annotations

import os
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3

from rc2l_bench.data.addresses import with_environment, without_secrets
from rc2l_bench.data.download import TEMPORARY, TIMEOUT, reason_of
from rc2l_bench.errors import UsageError, one_line

CONNECTIONS = 16
"""Requests of one process at a time: a batch should not wait for one answer after the other."""
SLOWEST = 32 << 10
"""Bytes per second; what comes more slowly for longer than a timeout counts as stalled, however steadily it drips."""
MOST_WAIT = 60.0
"""Seconds; what a server asks for beyond it is not waited for."""
_CHUNK = 1 << 16


class Span(NamedTuple):
    """Bytes of a file far away: its address, the first byte, their number. `${NAME}` in it is not filled in yet."""

    address: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a span could not be had.

    Attributes:
        reason: in words that hold no secret.
        wait: seconds that the server asks to wait.
        final: whether another try is of no use.
    """

    reason: str
    wait: float = 0.0
    final: bool = False


class Ranges(ABC):
    """A way to get spans. May be used after a fork; connections are made when they are needed."""

    @abstractmethod
    def fetch(self, spans: Sequence[Span]) -> list[bytes | Fault]:
        """Try once to get spans, side by side. What comes may still be wrong: the caller knows its hash."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections."""


def ranges_for(address: str) -> Ranges:
    """Choose the way by the scheme of an address."""
    return HttpRanges() if urlsplit(address).scheme in ("http", "https") else FsspecRanges()


class HttpRanges(Ranges):
    """Range requests (RFC 9110, section 14), with one connection for each thread."""

    def __init__(self) -> None:
        self._process = 0
        self._threads: ThreadPoolExecutor | None = None
        self._local = threading.local()

    def __reduce__(self) -> tuple[type[HttpRanges], tuple[()]]:
        return HttpRanges, ()

    def fetch(self, spans: Sequence[Span]) -> list[bytes | Fault]:
        """See `Ranges.fetch`."""
        if self._process != os.getpid():  # threads and connections do not survive a fork
            self._process, self._local = os.getpid(), threading.local()
            self._threads = ThreadPoolExecutor(CONNECTIONS, "ranges")
        assert self._threads is not None
        return list(self._threads.map(self._get, spans))

    def close(self) -> None:
        """See `Ranges.close`."""
        if self._threads is not None and self._process == os.getpid():
            self._threads.shutdown(wait=False, cancel_futures=True)
        self._process = 0

    def _get(self, span: Span) -> bytes | Fault:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        last = span.offset + span.size - 1
        headers = {"Range": f"bytes={span.offset}-{last}", "Accept-Encoding": "identity"}
        address = with_environment(span.address)
        try:
            with self._local.session.get(address, headers=headers, stream=True, timeout=TIMEOUT) as response:
                return _fault_of(response, span) or _receive(response, span)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            return Fault(reason_of(error))


def _fault_of(response: requests.Response, span: Span) -> Fault | None:
    """What is wrong with an answer, by its head; a whole file instead of a range is fine."""
    code = response.status_code
    if code == 206:
        start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        fits = start is not None and int(start[1]) == span.offset
        return None if fits else Fault("answers 206 with another Content-Range than was asked for")
    if code == 200:
        return None
    if code in TEMPORARY:
        return Fault(f"answers {code}", wait=_seconds(response.headers.get("Retry-After", "")))
    hint = ": credentials come from ~/.netrc or ${NAME} in the address" if code in (401, 403) else ""
    return Fault(f"answers {code}{hint}", final=True)


def _seconds(retry_after: str) -> float:
    """What a server asks for, as far as it is a number (the other form, a date, needs equal clocks)."""
    return min(float(retry_after), MOST_WAIT) if retry_after.strip().isdecimal() else 0.0


def _receive(response: requests.Response, span: Span) -> bytes | Fault:
    """The bytes of a span from the body of an answer, which is the span or the whole file."""
    skip = span.offset if response.status_code == 200 else 0
    wanted, got, kept = skip + span.size, 0, bytearray()
    deadline = time.monotonic() + TIMEOUT[1] + wanted / SLOWEST
    # read1 hands over what is there; read would wait for a whole chunk, and never look at the clock.
    while got < wanted and (chunk := response.raw.read1(_CHUNK, decode_content=False)):
        kept += chunk[max(0, skip - got) :]
        got += len(chunk)
        if time.monotonic() > deadline:
            return Fault(f"sent {got} of {wanted} bytes in {TIMEOUT[1] + wanted / SLOWEST:.0f} s")
    if len(kept) < span.size:
        return Fault(f"broke off after {got} of {wanted} bytes")
    return bytes(kept[: span.size])


class FsspecRanges(Ranges):
    """Whatever fsspec has a file system for. Credentials are looked for where each of them looks for its own."""

    def fetch(self, spans: Sequence[Span]) -> list[bytes | Fault]:
        """See `Ranges.fetch`."""
        if not spans:
            return []
        addresses = [with_environment(span.address) for span in spans]
        system, _ = open_system(addresses[0])
        starts, ends = [span.offset for span in spans], [span.offset + span.size for span in spans]
        try:
            found: list[Any] = system.cat_ranges(addresses, starts, ends, on_error="return")
        except Exception as error:  # every file system has errors of its own
            found = [error] * len(spans)
        return [_judge(one) for one in found]

    def close(self) -> None:
        """See `Ranges.close`."""


def open_system(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path there.

    Raises:
        UsageError: nobody knows the scheme, or its package is not installed.
    """
    import fsspec

    scheme = urlsplit(address).scheme
    try:
        system, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{scheme}://…: {without_secrets(str(error))}") from None
    return system, path


def _judge(found: bytes | Exception) -> bytes | Fault:
    if isinstance(found, bytes):
        return found
    text = without_secrets(one_line(found))[:160]
    return Fault(f"{type(found).__name__}: {text}", final=isinstance(found, FileNotFoundError | PermissionError))
