"""Imports published lists, and finds the split that a name stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rc2l_bench.config import SplitConfig, extended_by
from rc2l_bench.data.catalog import Catalog
from rc2l_bench.data.fetch import Source, fetch
from rc2l_bench.data.split_draws import draw, is_drawn
from rc2l_bench.data.split_lists import (
    MOST_BYTES,
    ListEntry,
    ListFile,
    Published,
    list_path,
    names,
    parse,
    pin,
    pinned,
    published,
)
from rc2l_bench.data.splits import Split, assemble
from rc2l_bench.errors import BenchError, UsageError, suggest
from rc2l_bench.files import checksum, set_aside
from rc2l_bench.readers import read_bytes

DOWNLOADS = Path("data/lists")


def import_list(
    dataset: str,
    name: str,
    catalog: Catalog,
    *,
    file: Path | None = None,
    unlabelled: Path | None = None,
    drop_duplicates: bool = False,
    aliases: Mapping[str, str] | None = None,
) -> Split:
    """Bring a list, check it, and pin its ids to `splits/<dataset>/<name>.txt`.

    Args:
        dataset: its name.
        name: of a published list, or a new name for a list of one's own.
        catalog: of the data set.
        file: the list; None = a mirror or the repository that released it.
        unlabelled: the unlabelled images; None = what is released with it, or all other training images.
        drop_duplicates: take an image that is on both sides as labelled, instead of refusing the list.
        aliases: further names by which the list may call images -> id.

    Raises:
        UsageError: the name is not known and there is no file, or it is that of a drawn split.
        BenchError: the files are out of reach, are not the published ones, or do not fit the data.
    """
    known = published(dataset)
    if is_drawn(name):
        raise UsageError(f"split '{name}': this name is kept for drawn splits: choose another, like my_{name}")
    listed = known.aliases.get(name, name)
    target, entry = list_path(dataset, listed), known.lists.get(listed)
    if entry is None and file is None:
        near = suggest(name, [*known.lists, *known.aliases])
        raise UsageError(f"{dataset} has no published list '{name}' (for your own, name its file too): {near}")
    if entry and file and not unlabelled and entry.files[0].unlabelled:
        raise UsageError(f"list {name} has a list of unlabelled images: --unlabelled {entry.files[0].unlabelled}")
    first, second = (file, unlabelled) if file else _bring(dataset, listed, known)
    assert first is not None
    provenance = {"list": listed, **_identify(first, entry, known)}
    labelled = _read(first, dataset, catalog, known, aliases, with_mask=True)
    if entry and len(labelled) != entry.labelled:
        raise BenchError(f"{first}: {len(labelled)} images, but list {listed} of {dataset} has {entry.labelled}")
    rest = _read(second, dataset, catalog, known, aliases, with_mask=False) if second else None
    if rest is not None:
        rest = _apart(labelled, rest, f"{dataset}, list {listed}", drop_duplicates)
    split = assemble(dataset, name, catalog, labelled, rest, provenance)
    pin(target, labelled, rest, provenance)
    return split


def _read(
    path: Path, dataset: str, catalog: Catalog, known: Published, aliases: Mapping[str, str] | None, *, with_mask: bool
) -> list[str]:
    """Ids of a list; `with_mask`: only images with a mask may be in it."""
    allowed = {row.id: row.labelled or not with_mask for row in catalog.of("train")}
    return parse(read_bytes(path, MOST_BYTES), str(path), known, allowed, dataset, aliases)


def _apart(labelled: Sequence[str], unlabelled: Sequence[str], what: str, drop: bool) -> list[str]:
    """The unlabelled ids that are not labelled too."""
    both = sorted(set(labelled) & set(unlabelled))
    if both and not drop:
        raise BenchError(
            f"{what}: {len(both)} image(s) both labelled and unlabelled, the first is '{both[0]}': "
            "--drop-duplicates takes them as labelled"
        )
    return [identity for identity in unlabelled if identity not in both]


def _bring(dataset: str, name: str, known: Published) -> tuple[Path, Path | None]:
    """A released file of a list, the first that is in reach, and its list of unlabelled images if it has one.

    Raises:
        BenchError: none is in reach, or what came has another hash.
    """
    failed: list[BenchError] = []
    for file in known.lists[name].files:
        stem = f"{extended_by(dataset)}-{name}-{file.source}"
        try:
            labelled = _download(dataset, f"{stem}.txt", file, file.path, known)
            rest = file.unlabelled and _download(dataset, f"{stem}-unlabelled.txt", file, file.unlabelled, known)
        except BenchError as error:
            failed.append(error)
            continue
        if file.sha256 and not checksum(labelled).startswith(f"sha256:{file.sha256}"):
            fault = f"not the released file, whose sha256 begins with {file.sha256}"
            set_aside(labelled, fault)  # or the next import would find it again
            raise BenchError(f"{labelled.name}: {fault}: get it again")
        return labelled, rest or None
    raise failed[0]


def _download(dataset: str, target: str, file: ListFile, path: str, known: Published) -> Path:
    origin = known.sources[file.source]
    source = Source(
        name=target,
        url=f"https://raw.githubusercontent.com/{origin.repository}/{file.commit or origin.commit}/{path}",
        size=None,
        checksum=None,
        licence=f"see github.com/{origin.repository}",
    )
    return fetch(source, DOWNLOADS / dataset)


def _identify(path: Path, entry: ListEntry | None, known: Published) -> dict[str, str]:
    """Which released file this is, by its hash.

    Raises:
        BenchError: it is none of them, and the hashes of all of them are known.
    """
    digest = checksum(path).removeprefix("sha256:")
    if entry is None:
        return {"kind": "own list", "file": path.name, "sha256": digest}
    fits = [file for file in entry.files if file.sha256 and digest.startswith(file.sha256)]
    fits = fits or [file for file in entry.files if file.sha256 is None]
    if not fits:
        wanted = " or ".join(str(file.sha256) for file in entry.files)
        raise BenchError(f"{path}: sha256 {digest[:16]}…, but the released file has {wanted}…: get it again")
    origin = known.sources[fits[0].source]
    return {
        "kind": "published",
        "repository": origin.repository,
        "commit": fits[0].commit or origin.commit,
        "path": fits[0].path,
        "sha256": digest,
        "verified": "by hash" if fits[0].sha256 else "by count",
    }


def check_split(dataset: str, name: str) -> None:
    """Make sure that a name stands for a split, without the data; whether its list can be had shows later.

    Args:
        dataset: its name.
        name: of the split.

    Raises:
        UsageError: there is no such split.
    """
    known = published(dataset)
    listed = known.aliases.get(name, name)
    if not (is_drawn(listed) or name in known.lists or name in known.aliases or pinned(dataset, name)):
        valid = ["full", "1_16", "1_8", "1_4", "1_2", "1_30", *names(dataset)]
        raise UsageError(f"{dataset} has no split '{name}': {suggest(name, valid)}")


def resolve(dataset: str, name: str, catalog: Catalog, config: SplitConfig, seed: int = 0) -> Split:
    """Find the split that a name stands for: drawn, or a list; a published list that is not pinned yet is imported.

    Args:
        dataset: its name.
        name: of the split.
        catalog: of the data set.
        config: how splits are drawn.
        seed: of the cell; it changes which draw a drawn split is.

    Raises:
        UsageError: there is no such split.
        BenchError: the list cannot be had or does not fit the data, or the gate found a contamination.
    """
    check_split(dataset, name)
    known = published(dataset)
    listed = known.aliases.get(name, name)
    if is_drawn(listed):
        classic = known.clean if listed.startswith("classic") else None
        clean = resolve(dataset, classic, catalog, config).labelled if classic else None
        return replace(draw(dataset, listed, catalog, config, seed, clean), name=name)
    found = pinned(dataset, name)
    if found is None:
        return import_list(dataset, name, catalog)
    return assemble(dataset, name, catalog, found.labelled, found.unlabelled, found.provenance)
