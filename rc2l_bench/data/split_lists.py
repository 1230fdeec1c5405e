"""Published lists of labelled images: what is known of them, their formats, and pinned ids.

`splits/<dataset>.yaml` says which lists there are and where; `splits/<dataset>/<name>.txt` holds the ids of one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from rc2l_bench.config import Count, Name, extended_by
from rc2l_bench.data.image_lists import Names, canonical, read_lines
from rc2l_bench.data.splits import split_id
from rc2l_bench.errors import BenchError, UsageError, shorten, suggest
from rc2l_bench.files import write_atomically
from rc2l_bench.readers import DamagedFileError, read_text
from rc2l_bench.schema import Model, load

SPLITS = Path("splits")
"""Where the checkout keeps definitions and pinned lists."""
UNLABELLED = "unlabelled"
"""Key in the head of a pinned list: the hash of its unlabelled side, or `ALL_OTHERS`."""
ALL_OTHERS = "all other training images"
SEAL = "seal"
"""Last key in the head of a pinned list: sha256 of the head before it and of the ids after it."""
MOST_BYTES = 1 << 27
"""Of a list: some millions of ids."""

Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class Repository(Model):
    """A public repository on GitHub."""

    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    commit: Commit
    """At which its files are read."""


class ListFile(Model):
    """A released file."""

    source: str
    """A key of `sources`."""
    path: str
    """Inside the repository."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")] | None = None
    """Of the file, at least the first 16 digits; None = not known."""
    unlabelled: str | None = None
    """Path of the list of unlabelled images; None = all other training images."""
    commit: Commit | None = None
    """Where it differs from that of the source."""


class ListEntry(Model):
    """A published list."""

    labelled: Count
    """Images in it."""
    note: str = ""
    files: Annotated[list[ListFile], Field(min_length=1)]
    """The same list, as different authors released it."""


class Published(Model):
    """splits/<dataset>.yaml."""

    example: str = ""
    """An id of the data set, for messages."""
    ids: str = ".+"
    """Regular expression of the ids."""
    clean: Name | None = None
    """The list of the images whose masks are the original ones."""
    sources: dict[str, Repository] = Field(default_factory=dict)
    aliases: dict[Name, Name] = Field(default_factory=dict)
    lists: dict[Name, ListEntry] = Field(default_factory=dict)

    @field_validator("ids")
    @classmethod
    def _is_expression(cls, ids: str) -> str:
        try:
            re.compile(ids)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"'{ids[:40]}' is no regular expression ({error})") from None
        return ids

    @model_validator(mode="after")
    def _sources_are_known(self) -> Published:
        for name, entry in self.lists.items():
            for file in entry.files:
                if file.source not in self.sources:
                    hint = suggest(file.source, self.sources)
                    raise ValueError(f"lists.{name}: there is no source '{file.source}'; {hint}")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """The ids of an imported list, and where they come from."""

    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...] | None
    provenance: Mapping[str, str]


def published(dataset: str) -> Published:
    """Read the published lists of a data set, or of the one that it extends; none where nobody wrote them down."""
    path = SPLITS / f"{extended_by(dataset)}.yaml"
    return load(Published, path) if path.is_file() else Published()


def parse(
    data: bytes,
    origin: str,
    known: Published,
    ids: Mapping[str, bool],
    dataset: str,
    aliases: Mapping[str, str] | None = None,
) -> list[str]:
    """Read a list in any of the forms of `image_lists`.

    Args:
        data: the bytes of the file.
        origin: its name, for messages.
        known: what the ids of the data set look like.
        ids: id of each training image -> whether it may be in this list.
        dataset: its name.
        aliases: further names of images -> id.

    Returns:
        Ids in the order of the file.

    Raises:
        BenchError: not text, empty, an unknown id, an id twice, an image that may not be in the list, or a list of
            another data set.
    """
    names = Names(ids, aliases)
    seen: dict[str, int] = {}
    for number, line in read_lines(data, origin):
        identity = names.of_line(line, f"{origin}, line {number}")
        where = f"{origin}, line {number}: '{shorten(identity or canonical(line))}'"
        if identity is None or identity not in ids:
            if not re.fullmatch(known.ids, identity or canonical(line)):
                raise BenchError(
                    f"{where} is no id of {dataset} (like {known.example}): is this a list of another dataset?"
                )
            raise BenchError(
                f"{where} is not a training image of {dataset}: the list and the data do not belong together"
            )
        if not ids[identity]:
            raise BenchError(f"{where} has no mask in {dataset}, so it cannot be labelled")
        if identity in seen:
            raise BenchError(f"{where} is there twice, first in line {seen[identity]}: every image once")
        seen[identity] = number
    return list(seen)


def list_path(dataset: str, name: str) -> Path:
    """The pinned file of a list.

    Raises:
        UsageError: the name cannot be that of a file.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or name.endswith(".unlabelled"):
        raise UsageError(
            f"split '{name}': a name has letters, digits, '_', '-' and '.', and begins with a letter or digit"
        )
    return SPLITS / extended_by(dataset) / f"{name}.txt"


def pin(target: Path, labelled: Sequence[str], unlabelled: Sequence[str] | None, provenance: Mapping[str, str]) -> None:
    """Write sorted ids to `target`, and beside it those of the unlabelled images.

    The head of each file holds the provenance and the hash of its ids; that of `target` also the hash of the other
    side, so that a list of unlabelled images cannot be lost or exchanged unseen.
    """
    rest = target.with_suffix(".unlabelled.txt")
    other = ALL_OTHERS if unlabelled is None else split_id(unlabelled)
    if unlabelled is None:
        rest.unlink(missing_ok=True)
    else:
        write_atomically(rest, _render(unlabelled, provenance))
    write_atomically(target, _render(labelled, {**provenance, UNLABELLED: other}))


def _render(ids: Sequence[str], head: Mapping[str, str]) -> bytes:
    """A pinned list; its last line of the head is the hash of all that follows it and of all that comes before."""
    facts = {**head, "id": split_id(ids)}
    lines = "".join(f"# {key}: {' '.join(value.split())}\n" for key, value in facts.items())
    body = "".join(f"{identity}\n" for identity in sorted(ids))
    return f"{lines}# {SEAL}: {_hash(lines, body)}\n\n{body}".encode()


def _hash(head: str, body: str) -> str:
    return hashlib.sha256(f"{head}\n{body}".encode()).hexdigest()


def pinned(dataset: str, name: str) -> Pinned | None:
    """A list that was imported before.

    Raises:
        BenchError: its file was changed since.
    """
    name = published(dataset).aliases.get(name, name)
    target = list_path(dataset, name)
    if not target.is_file():
        return None
    rest = target.with_suffix(".unlabelled.txt")
    head, labelled = _read_pinned(target)
    other = head.pop(UNLABELLED, ALL_OTHERS)
    if other != ALL_OTHERS and not rest.is_file():
        raise DamagedFileError(f"{rest}: is missing, {target} goes with it: import the list again")
    if other == ALL_OTHERS:
        return Pinned(labelled=tuple(labelled), unlabelled=None, provenance=head)
    unlabelled = _read_pinned(rest)[1]
    if split_id(unlabelled) != other:
        raise DamagedFileError(f"{rest}: belongs to another list than {target}: import the list again")
    return Pinned(labelled=tuple(labelled), unlabelled=tuple(unlabelled), provenance=head)


def _read_pinned(path: Path) -> tuple[dict[str, str], list[str]]:
    """The head of a pinned list without its hashes, and its ids."""
    text = read_text(path, MOST_BYTES)
    head, _, body = text.partition("\n\n")
    lines, _, seal = head.rpartition(f"# {SEAL}: ")
    if seal != _hash(lines, body):
        raise DamagedFileError(f"{path}: was changed after the import, or is of an older version: import it again")
    facts = {key: value for key, _, value in (line.removeprefix("# ").partition(": ") for line in lines.splitlines())}
    del facts["id"]
    return facts, body.splitlines()


def names(dataset: str) -> list[str]:
    """Published and imported lists of a data set."""
    known = published(dataset)
    own = {path.stem for path in (SPLITS / extended_by(dataset)).glob("*.txt") if not path.stem.endswith(".unlabelled")}
    return sorted({*known.lists, *known.aliases, *own})


def nearest(dataset: str, count: int) -> str | None:
    """The published list whose number of labelled images comes nearest; None where there are none."""
    lists = published(dataset).lists
    return min(lists, key=lambda name: abs(lists[name].labelled - count), default=None)
