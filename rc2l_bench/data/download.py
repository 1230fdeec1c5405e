"""One HTTP download that survives stalls, cut connections and servers that are wrong about Range."""

from __future__ import annotations

import re
import time
from pathlib import Path

import requests
import urllib3
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from rc2l_bench.console import errors
from rc2l_bench.data.addresses import without_secrets
from rc2l_bench.data.partial_files import PartialFile
from rc2l_bench.errors import BenchError
from rc2l_bench.files import naming, sync

TIMEOUT = (10.0, 60.0)
"""Seconds for the connection, and for every wait for more bytes."""
TRIES = 5
"""Failures in a row, without progress, until an address is given up."""
PAUSE = 1.0
"""Seconds before the second try; doubles each time."""
_CHUNK = 1 << 16
_PROGRESS = 1 << 20
"""So many new bytes are progress."""
TEMPORARY = {408, 425, 429, 500, 502, 503, 504}
"""Codes that another try may change."""


class UnavailableError(BenchError):
    """An address does not give the file."""


class _Again(Exception):  # noqa: N818 - not an error yet
    """This try failed; another one may not."""


def download(address: str, part: PartialFile, *, size: int | None, resume: bool) -> bool:
    """Download into a file, which keeps what has arrived when this is cut off.

    Args:
        address: http or https.
        part: the file; what it holds already is continued with Range.
        size: bytes that the whole must have; None = whatever comes.
        resume: False = always from the first byte, for what has no checksum to find a wrong join by.

    Returns:
        Whether bytes of several transfers were joined.

    Raises:
        UnavailableError: refused, of another size, or too many failures.
    """
    joined, failures, best = False, 0, 0
    with requests.Session() as session:
        while True:
            have = _start(part, size, resume)
            joined |= have > 0
            if have == size:
                return joined
            try:
                joined &= _transfer(session, address, part, have, size)
                return joined
            except _Again as error:
                reason = str(error)
            now = part.size if resume else 0
            failures = 1 if now >= best + _PROGRESS else failures + 1
            best = max(best, now)
            if failures >= TRIES:
                raise UnavailableError(f"{without_secrets(address)}: {reason} (tried {failures} times)")
            time.sleep(PAUSE * 2 ** (failures - 1))


def _start(part: PartialFile, size: int | None, resume: bool) -> int:
    """Bytes of the file that can be continued; what cannot is discarded."""
    have = part.size
    if size is not None and have > size:
        part.discard(f"expected {size} bytes, got {have}")
    elif have and not resume:
        part.discard("cannot be continued, because there is no checksum")
    return part.size


def _transfer(session: requests.Session, address: str, part: PartialFile, have: int, size: int | None) -> bool:
    """One request; returns whether it continued the file (instead of starting it anew)."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with session.get(address, headers=headers, stream=True, timeout=TIMEOUT) as response:
            start, total = _agree(response, part, have, size)
            _receive(response, part.path, start, total)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Again(reason_of(error)) from None
    return start > 0


def _agree(response: requests.Response, part: PartialFile, have: int, size: int | None) -> tuple[int, int | None]:
    """Check what the server says; returns the first byte that comes and the size of the whole."""
    address, code = without_secrets(response.url), response.status_code
    if code in TEMPORARY:
        raise _Again(f"answers {code}")
    if code == 206 or (code == 416 and have):
        total = _range_total(response.headers.get("Content-Range", ""), have) if code == 206 and have else None
        if total is None or (size is not None and total != size):
            fault = f"answers a request for the bytes from {have} with {code} and a wrong Content-Range"
            part.discard(fault)  # no Range in the next request
            raise _Again(fault)
        return have, total
    if code != 200:
        raise UnavailableError(f"{address}: answers {code}")
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else size
    if size is not None and total != size:
        raise UnavailableError(f"{address}: has {total} bytes, expected {size}")
    if have:  # or they would be overwritten
        part.discard("the server does not continue files")
    return 0, total


def _range_total(header: str, start: int) -> int | None:
    """Size of the whole by a Content-Range that begins at `start` and goes to the end; None = it does not."""
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", header.strip())
    if not found:
        return None
    first, last, total = map(int, found.groups())
    return total if first == start and last == total - 1 else None


def _receive(response: requests.Response, part: Path, start: int, total: int | None) -> None:
    """Writes the body, as it is sent, after the first `start` bytes of the file."""
    got = start
    with naming(part), part.open("ab" if start else "wb") as file, _bar() as bar:
        task = bar.add_task(part.stem, total=total, completed=start)
        for chunk in response.raw.stream(_CHUNK, decode_content=False):
            got += len(chunk)
            if total is not None and got > total:
                raise UnavailableError(f"{without_secrets(response.url)}: sends more than {total} bytes")
            file.write(chunk)
            bar.update(task, completed=got)
        sync(file)
    if total is not None and got < total:
        raise _Again(f"broke off after {got} of {total} bytes")


def reason_of(error: Exception) -> str:
    """Describe what went wrong between here and a server, without an address, which may hold a secret."""
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return f"no answer for {TIMEOUT[1]:g} s"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "the connection broke off"
    return f"failed ({type(error).__name__})"


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=errors, transient=True, disable=not errors.is_terminal)
