"""Which of the user's images are for training, validation and test."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from rc2l_bench.data.datasets.folder_config import FolderConfig, Lists, PartFolders, Shares
from rc2l_bench.data.datasets.folder_patterns import lies_under, user_path
from rc2l_bench.data.image_lists import Names, canonical, read_lines
from rc2l_bench.draws import derive
from rc2l_bench.errors import UsageError
from rc2l_bench.readers import DamagedFileError, read_bytes


def assign_parts(images: Mapping[str, Path], labelled: Collection[str], config: FolderConfig) -> dict[str, str]:
    """Part by id, in the way that the description has chosen; images that belong to no part are left out.

    Raises:
        UsageError: the shares, lists or folders do not fit the files.
    """
    if config.shares:
        return draw_parts(images, labelled, config.shares)
    if config.lists:
        return _gather(images, labelled, _listed(images, config.lists), rest=config.lists.train is None)
    assert config.folders is not None
    return _gather(images, labelled, _lying(images, config.folders), rest=config.folders.train is None)


def draw_parts(images: Collection[str], labelled: Collection[str], shares: Shares) -> dict[str, str]:
    """Part by id. The hash of (seed, id) orders the labelled images: val has the first ones, test the next.

    Raises:
        UsageError: there are too few labelled images.
    """
    order = sorted(labelled, key=lambda identity: (derive(shares.seed, f"part/{identity}"), identity))
    val = max(1, round(shares.val * len(order)))
    test = max(1, round(shares.test * len(order))) if shares.test else 0
    if val + test >= len(order):
        raise UsageError(f"shares: val, test and train need more images with a mask than there are ({len(order)})")
    drawn = dict.fromkeys(order[:val], "val") | dict.fromkeys(order[val : val + test], "test")
    return {identity: drawn.get(identity, "train") for identity in images}


def list_files(config: FolderConfig) -> list[Path]:
    """The files of `lists`."""
    lists = config.lists
    return [user_path(name) for name in (lists.train, lists.val, lists.test) if name] if lists else []


def _gather(
    images: Collection[str], labelled: Collection[str], told: Iterator[tuple[str, str, str]], *, rest: bool
) -> dict[str, str]:
    """Part by id, from (part, id, where it says so); `rest`: all others are train.

    Raises:
        UsageError: an image is there twice, or in val without a mask.
    """
    parts: dict[str, str] = {}
    for part, identity, where in told:
        if identity in parts:
            raise UsageError(f"{where}: '{identity}' is in {parts[identity]} already")
        if part == "val" and identity not in labelled:
            raise UsageError(f"{where}: '{identity}' has no mask, which val needs")
        parts[identity] = part
    return {identity: parts.get(identity, "train") for identity in images} if rest else parts


def _listed(images: Mapping[str, Path], lists: Lists) -> Iterator[tuple[str, str, str]]:
    names = Names(images, {path.as_posix(): identity for identity, path in images.items()})
    for part, name in (("train", lists.train), ("val", lists.val), ("test", lists.test)):
        for number, line in _lines(name) if name else ():
            where = f"{name}, line {number}"
            identity = names.of_line(line, where)
            if identity is None:
                raise UsageError(
                    f"{where}: no image has the id '{canonical(line)}' (they are like '{next(iter(images))}')"
                )
            yield part, identity, where


def _lines(name: str) -> list[tuple[int, str]]:
    try:
        data = read_bytes(user_path(name))
    except OSError as error:
        raise UsageError(f"{name}: cannot be read ({type(error).__name__}): expected a text file of ids") from None
    except DamagedFileError as error:
        raise UsageError(str(error)) from None
    return read_lines(data, name)


def _lying(images: Mapping[str, Path], folders: PartFolders) -> Iterator[tuple[str, str, str]]:
    for part, texts in (("train", folders.train), ("val", folders.val), ("test", folders.test)):
        inside: Callable[[Path], bool] = lies_under(texts or ())
        found = [identity for identity, path in images.items() if inside(path)]
        if texts and not found:
            raise UsageError(f"folders.{part}: no image lies in {' or '.join(texts)}")
        yield from ((part, identity, f"folders.{part}") for identity in found)
