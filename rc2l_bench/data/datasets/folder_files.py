"""Which files belong together: from globs to ids, and from ids to parts."""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from rc2l_bench.data.datasets.folder_config import Lists, Shares
from rc2l_bench.draws import derive
from rc2l_bench.errors import UsageError

IMAGES = (".png", ".jpg", ".jpeg")
MASKS = (".png",)
_OTHERS = (".bmp", ".gif", ".heic", ".tif", ".tiff", ".webp", *IMAGES)
_LONGEST = 80
"""Bytes of an id: the name of a tar member holds 100."""


def find(where: str, patterns: Sequence[str], suffixes: Collection[str]) -> dict[str, Path]:
    """Files by id, sorted by id.

    Args:
        where: the key of the yaml, for messages.
        patterns: folders or globs; the id is what the last `*` stands for, without the suffix.
        suffixes: what is looked for, lower case, with dot.

    Raises:
        UsageError: nothing is found, a file has another format, an id is there twice or is not usable.
    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        before = len(found)
        for identity, path in _matches(where, pattern, suffixes):
            if identity in found:
                raise UsageError(f"two {where} have the id '{identity}': {found[identity]} and {path}: rename one")
            found[identity] = path
        if len(found) == before:
            raise UsageError(f"{where}: no {' or '.join(suffixes)} files match '{pattern}' (seen from {Path.cwd()})")
    return dict(sorted(found.items()))


def _matches(where: str, pattern: str, suffixes: Collection[str]) -> Iterator[tuple[str, Path]]:
    head, tail = (pattern, "*") if "*" not in pattern else (str(Path(pattern).parent), Path(pattern).name)
    if tail.count("*") != 1:
        raise UsageError(f"{where}: '{pattern}': the file name needs exactly one *, which stands for the id")
    start, end = tail.split("*")
    folders = glob.glob(head, recursive=True) if "*" in head else [head]  # noqa: PTH207 - Path.glob wants relative patterns
    for folder in map(Path, folders):
        if "*" not in head and not folder.is_dir():
            raise UsageError(f"{where}: {folder}: no such folder (seen from {Path.cwd()})")
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            name, suffix = path.name, path.suffix.lower()
            wanted = suffix in _OTHERS and not name.startswith(".") and len(name) > len(start) + len(end)
            if not (wanted and name.startswith(start) and name.endswith(end) and path.is_file()):
                continue
            if suffix not in suffixes:
                raise UsageError(
                    f"{path}: {where} must be {' or '.join(suffixes)}: convert it, or name a glob without it"
                )
            identity = name[len(start) : len(name) - len(end)]
            yield _usable(identity if end.lower().endswith(suffix) else Path(identity).stem, path), path


def _usable(identity: str, path: Path) -> str:
    if not identity.isprintable() or "\\" in identity or len(identity.encode(errors="replace")) > _LONGEST:
        raise UsageError(f"{str(path)!r}: its id must be printable, without \\, of at most {_LONGEST} bytes: rename it")
    return identity


def pair(images: Mapping[str, Path], masks: Mapping[str, Path], *, unlabelled: bool) -> None:
    """Checks that every mask has an image and, unless unlabelled images are allowed, every image a mask.

    Raises:
        UsageError: one has not; names the first, and how many more there are.
    """
    lone = sorted(masks.keys() - images.keys())
    if lone:
        raise UsageError(f"{masks[lone[0]]}: a mask without an image{_more(lone)}: no image has the id '{lone[0]}'")
    bare = sorted(images.keys() - masks.keys())
    if bare and not unlabelled:
        hint = "add it, or allow such images with `unlabelled: true`"
        raise UsageError(f"{images[bare[0]]}: an image without a mask{_more(bare)}: {hint}")


def _more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def draw_parts(images: Collection[str], labelled: Collection[str], shares: Shares) -> dict[str, str]:
    """Part by id. The hash of (seed, id) orders the labelled images: val has the first ones, test the next.

    Raises:
        UsageError: there are too few labelled images.
    """
    order = sorted(labelled, key=lambda identity: (derive(shares.seed, f"part/{identity}"), identity))
    val = max(1, round(shares.val * len(order)))
    test = max(1, round(shares.test * len(order))) if shares.test else 0
    if val + test >= len(order):
        raise UsageError(f"shares: {len(order)} images with a mask are too few for val, test and train")
    drawn = dict.fromkeys(order[:val], "val") | dict.fromkeys(order[val : val + test], "test")
    return {identity: drawn.get(identity, "train") for identity in images}


def listed_parts(images: Collection[str], labelled: Collection[str], lists: Lists) -> dict[str, str]:
    """Part by id, from the lists; without a list of train it gets all the rest.

    Raises:
        UsageError: a list cannot be read, is empty, names what is not there, or an id is there twice.
    """
    parts: dict[str, str] = {}
    for part, name in (("train", lists.train), ("val", lists.val), ("test", lists.test)):
        for identity, line in _lines(Path(name)) if name else ():
            if identity not in images:
                raise UsageError(f"{name}, line {line}: no image has the id '{identity}'")
            if identity in parts:
                raise UsageError(f"{name}, line {line}: '{identity}' is in {parts[identity]} already")
            if part == "val" and identity not in labelled:
                raise UsageError(f"{name}, line {line}: '{identity}' has no mask, which val needs")
            parts[identity] = part
    return parts if lists.train else {identity: parts.get(identity, "train") for identity in images}


def _lines(path: Path) -> list[tuple[str, int]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({type(error).__name__}): expected a text file of ids") from None
    found = [(line.strip(), number) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not found:
        raise UsageError(f"{path}: empty: expected one id on each line")
    return found
