"""A folder far away as a storage: pieces by parallel range requests, from a local copy where there is one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

from rc2l_bench.data.addresses import join, without_secrets
from rc2l_bench.data.ranges import Fault, Span, ranges_for
from rc2l_bench.data.storage import Disk, Piece, Storage
from rc2l_bench.errors import BenchError

TRIES = 5
"""Until a piece is given up."""
PAUSE = 1.0
"""Seconds before the second try; doubles each time."""
COPIES = Path(".rc2l/mirror")
"""Where local copies of files far away are kept, a folder for each address."""


def copies_of(base: str) -> Path:
    """The folder for copies of what lies under an address."""
    return COPIES / hashlib.sha256(base.encode()).hexdigest()[:16]


class Remote(Storage):
    """Files under an address. What arrives is compared with its hash, and asked for again where it differs."""

    def __init__(self, base: str, copies: Path | None = None) -> None:
        """Say where.

        Args:
            base: address of the folder; see `addresses.split_base`.
            copies: local folder that may hold some of the files.
        """
        self.base, self.copies = base, copies
        self._disk = Disk(copies) if copies else None
        self._ranges = ranges_for(base)

    def read(self, pieces: Sequence[Piece]) -> list[bytes]:
        """See `Storage.read`."""
        found = [self._local(piece) for piece in pieces]
        missing = [piece for piece, data in zip(pieces, found, strict=True) if data is None]
        fetched = iter(self._fetch(missing))
        return [next(fetched) if data is None else data for data in found]

    def close(self) -> None:
        """See `Storage.close`."""
        self._ranges.close()
        if self._disk:
            self._disk.close()

    def _local(self, piece: Piece) -> bytes | None:
        """The bytes from the local copy; None where there is none, or a damaged one, which is as good as none."""
        if self._disk is None or self.copies is None or not (self.copies / piece.name).is_file():
            return None
        try:
            return self._disk.read([piece])[0]
        except (BenchError, OSError):
            return None

    def _fetch(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Pieces from far away; only those that failed are asked for again."""
        done: dict[int, bytes] = {}
        for attempt in range(1, TRIES + 1):
            left = [number for number in range(len(pieces)) if number not in done]
            spans = [Span(join(self.base, pieces[number].name), *pieces[number][1:3]) for number in left]
            faults: dict[int, Fault] = {}
            for number, answer in zip(left, self._ranges.fetch(spans), strict=True):
                if isinstance(answer, bytes) and pieces[number].fits(answer):
                    done[number] = answer
                else:
                    faults[number] = (
                        answer if isinstance(answer, Fault) else Fault("sends other bytes than the index says")
                    )
            if not faults:
                break
            self._wait_or_give_up(pieces, faults, attempt)
        return [done[number] for number in range(len(pieces))]

    def _wait_or_give_up(self, pieces: Sequence[Piece], faults: dict[int, Fault], attempt: int) -> None:
        number, fault = next(((n, f) for n, f in faults.items() if f.final), next(iter(faults.items())))
        if fault.final or attempt == TRIES:
            address = without_secrets(join(self.base, pieces[number].name))
            tried = "" if fault.final else f" (tried {attempt} times): run the same again later, it goes on from here"
            raise BenchError(f"{address}: {pieces[number].owner}: {fault.reason}{tried}")
        time.sleep(max(PAUSE * 2 ** (attempt - 1), *(fault.wait for fault in faults.values())))
