"""Unfinished downloads: what this program has begun may go, what a person may have brought stays."""

from __future__ import annotations

import os
from pathlib import Path

from rc2l_bench.files import say, set_aside, write_atomically


class PartialFile:
    """The beginning of a file, `<name>.part`, and `<name>.part.own` beside it if this program began it.

    Browsers call unfinished files `.part` too, so the name alone does not say whose it is.
    """

    def __init__(self, target: Path) -> None:
        """Look at what is there.

        Args:
            target: what the file is to become.
        """
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._mark = target.with_name(f"{target.name}.part.own")
        self._brought = 0 if self._is_own() else self.size

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def adopt(self) -> None:
        """Take what lies at the target for the beginning of the file."""
        if self.size:
            self.discard("shorter than what is there")
        self._mark.unlink(missing_ok=True)
        self.target.rename(self.path)
        self._brought = self.size
        say(f"{self.target}: {self._brought:,} bytes are there: taken for the beginning of the file and continued")

    def begin(self) -> None:
        """Make sure that the file is there; a new one is marked before a byte is in it."""
        if not self.path.exists():
            self.path.touch()
            write_atomically(self._mark, str(self.path.stat().st_ino).encode())

    def discard(self, fault: str) -> None:
        """Start anew. What was brought is kept, as it was found."""
        if self._brought:
            os.truncate(self.path, min(self._brought, self.size))
            set_aside(self.path, fault)
            self._brought = 0
        else:
            self.path.unlink(missing_ok=True)
        self.begin()

    def finish(self) -> None:
        """Move the file to its target."""
        self.path.replace(self.target)
        self._mark.unlink(missing_ok=True)

    def leave(self) -> None:
        """Give up; nothing stays where nothing has come."""
        if not self.size:
            self.path.unlink(missing_ok=True)
            self._mark.unlink(missing_ok=True)

    def _is_own(self) -> bool:
        """Whether the file is the one that was marked, and not another one of its name."""
        try:
            return self._mark.read_text() == str(self.path.stat().st_ino)
        except (OSError, UnicodeDecodeError):
            return False
