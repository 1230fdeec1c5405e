"""Which files of the user are images and masks, which belong together, and which are left over and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from rc2l_bench.data.datasets.folder_config import FolderConfig
from rc2l_bench.data.datasets.folder_patterns import FORMATS, Pattern, StarText, lies_under
from rc2l_bench.data.image_headers import GREY, PALETTE, read_file_header
from rc2l_bench.errors import UsageError

IMAGES = (".png", ".jpg", ".jpeg")
MASKS = (".png",)
_LONGEST = 1000
"""Bytes of an id. On every common file system a name has at most 255; with folders an id may be longer."""
_MASK_WORDS = ("mask", "label", "annot", "seg", "gt", "colo", "instance")
"""What people put into the names of masks."""
_BETWEEN = "_-. "
"""What stands in a name between that of the image and such a word."""


@dataclass(frozen=True, slots=True)
class Files:
    """What was found.

    Attributes:
        images: by id, sorted by id.
        masks: by id, sorted by id.
        left: reason by file that is not used.
    """

    images: dict[str, Path]
    masks: dict[str, Path]
    left: dict[Path, str] = field(default_factory=dict)


def find_files(config: FolderConfig) -> Files:
    """Find images and masks, and pair them.

    Raises:
        UsageError: a folder is not there or nothing is found in it, a file has another format, an id is there twice or
            is not usable, a mask has no image, or an image no mask and the description does not allow that.
    """
    left: dict[Path, str] = {}
    excluded = lies_under(config.exclude or ())
    masks = _find("masks", config.masks, MASKS, config, excluded, left)
    # What is a mask is no image, however wide the pattern for images is.
    taken = {path.absolute() for path in masks.values()}
    images = _find("images", config.images, IMAGES, config, excluded, left, taken)
    used = taken | {path.absolute() for path in images.values()}
    _pair(images, masks, config)
    return Files(images, masks, {path: why for path, why in left.items() if path.absolute() not in used})


def _find(
    where: str,
    patterns: Sequence[str],
    suffixes: Sequence[str],
    config: FolderConfig,
    excluded: Callable[[Path], bool],
    left: dict[Path, str],
    taken: Set[Path] = frozenset(),
) -> dict[str, Path]:
    """Files by id, sorted by id; those that no pattern names go to `left`."""
    found: dict[str, Path] = {}
    for pattern in (Pattern(text, where) for text in patterns):
        count = 0
        for path in pattern.files():
            if path.absolute() in taken:
                continue
            match = pattern.match(path)
            if reason := "excluded" if excluded(path) else _reason(path, pattern, match):
                left.setdefault(path, reason)
                continue
            assert match is not None, path
            identity = _identify(where, path, match, suffixes, config)
            if identity in found:
                raise UsageError(_twice(where, identity, found[identity], path, config))
            found[identity] = path
            count += 1
        if not count:
            raise UsageError(
                f"{where}: no {' or '.join(suffixes)} files match '{pattern.text}' (seen from {Path.cwd()})"
                + " besides those that are masks" * bool(taken)
            )
    return dict(sorted(found.items()))


def _reason(path: Path, pattern: Pattern, match: StarText | None) -> str | None:
    """Why a file is not used; None = it is."""
    if path.name.startswith("."):
        return "hidden"
    if path.suffix.lower() not in FORMATS:
        return "no picture"
    if match is not None:
        return None
    return "in a sub-folder" if not pattern.deep and path.parent != pattern.folder else f"not like '{pattern.text}'"


def _identify(where: str, path: Path, match: StarText, suffixes: Sequence[str], config: FolderConfig) -> str:
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: {where} must be {' or '.join(suffixes)}: convert it, or leave it out with `exclude`")
    identity = match.whole if config.ids == "path" else match.name
    if not str(path).isprintable():
        raise UsageError(f"{str(path)!r}: names of files and folders must be printable: rename it")
    if "\\" in identity or len(identity.encode()) > _LONGEST:
        raise UsageError(f"{str(path)!r}: its id must be without \\ and of at most {_LONGEST} bytes: rename it")
    return identity


def _twice(where: str, identity: str, first: Path, second: Path, config: FolderConfig) -> str:
    remedy = "rename one, or leave one out with `exclude`"
    if config.ids == "name" and first.parent != second.parent:
        remedy = "where folders belong to the name, write `ids: path`; else rename one"
    elif where == "masks":
        remedy = f"only one can be the mask of image '{identity}': name one kind, or leave the other out with `exclude`"
    return f"two {where} have the id '{identity}': {first} and {second}: {remedy}"


def _pair(images: Mapping[str, Path], masks: Mapping[str, Path], config: FolderConfig) -> None:
    """Check that every mask has an image and, unless unlabelled images are allowed, every image a mask."""
    lone = sorted(masks.keys() - images.keys())
    if lone:
        raise UsageError(f"{masks[lone[0]]}: a mask without an image{_more(lone)}: no image has the id '{lone[0]}'")
    bare = sorted(images.keys() - masks.keys())
    # Whoever has written `exclude` has looked: what is left are images.
    strange = [pair for identity in bare if (pair := _mask_of(identity, images))] if config.exclude is None else []
    if strange:
        identity, other = strange[0]
        path = images[identity]
        like = path.parent / path.name.replace(Path(other).name, "*", 1)
        raise UsageError(
            f"{path}: looks like a mask of image '{other}'{_more(strange)}: name such files under masks, or leave them "
            f"out with `exclude: '{like}'` (`exclude: []` if they are images)"
        )
    if bare and not config.unlabelled:
        hint = "add it, or allow such images with `unlabelled: true`"
        raise UsageError(f"{images[bare[0]]}: an image without a mask{_more(bare)}: {hint}")


def _mask_of(identity: str, images: Mapping[str, Path]) -> tuple[str, str] | None:
    """An image without a mask and the image that it seems to be a mask of, by their names; None = there is none."""
    for at, letter in enumerate(identity):
        if letter not in _BETWEEN:
            continue
        for other, rest in ((identity[:at], identity[at:]), (identity[at + 1 :], identity[:at])):
            if other not in images:
                continue
            if any(word in rest.lower() for word in _MASK_WORDS) or _is_flat_beside(images[identity], images[other]):
                return identity, other
    return None


def _is_flat_beside(path: Path, other: Path) -> bool:
    """Whether a picture is grey or has a palette while the other one has colours."""
    one, two = read_file_header(path), read_file_header(other)
    return one.kind == "png" and one.colour in (GREY, PALETTE) and two.colour not in (GREY, PALETTE)


def _more(names: Sequence[object]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def describe_left(left: Mapping[Path, str]) -> str | None:
    """Say in one line how many files are not used, with the number and an example of every reason; None = all are."""
    if not left:
        return None
    reasons: dict[str, list[Path]] = {}
    for path, reason in left.items():
        reasons.setdefault(reason, []).append(path)
    told = [f"{len(paths)} {reason} ({paths[0]})" for reason, paths in reasons.items()]
    return f"{len(left)} file{'s' * (len(left) > 1)} not used: {', '.join(told)}"
