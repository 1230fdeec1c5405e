"""What a report has to cite: the suite, and every method that it compares."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from rc2l_bench.errors import UsageError
from rc2l_bench.readers import read_text
from rc2l_bench.variants import base_of

FILE = "references.bib"
SUITE = "suite"
_ENTRY = re.compile(r"^@\w+\{.*?^\}$", re.MULTILINE | re.DOTALL)
_METHODS = re.compile(r"^\s*methods\s*=\s*\{([^}]*)\},?\n", re.MULTILINE)


def read_references(path: Path) -> list[tuple[str, frozenset[str]]]:
    """Read a BibTeX file whose entries have a field `methods`.

    Returns:
        The text of every entry without that field, and the method ids that it names; nothing without the file.

    Raises:
        UsageError: an entry does not say for which methods it is meant.
    """
    found = []
    for entry in _ENTRY.findall(read_text(path) if path.is_file() else ""):
        named = _METHODS.search(entry)
        if named is None:
            raise UsageError(f"{path}: {entry.splitlines()[0]}: has no field `methods`: name the methods it belongs to")
        ids = frozenset(name.strip() for name in named[1].split(","))
        found.append((_METHODS.sub("", entry), ids))
    return found


def cite(methods: Iterable[str], references: Iterable[tuple[str, frozenset[str]]]) -> str:
    """Put together the BibTeX of the suite and of some methods, in the order of the file.

    Args:
        methods: ids, with or without variants.
        references: from `read_references`.
    """
    wanted = {base_of(method) for method in methods} | {SUITE}
    return "\n\n".join(entry for entry, ids in references if ids & wanted)
