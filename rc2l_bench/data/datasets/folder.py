"""`folder`: the user's own images, described by `datasets/<name>.yaml`, without code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from rc2l_bench.config import load
from rc2l_bench.data.datasets.base import RAW, Dataset, Sample
from rc2l_bench.data.datasets.folder_config import FolderConfig
from rc2l_bench.data.datasets.folder_files import Files, describe_left, find_files
from rc2l_bench.data.datasets.folder_manifest import (
    Manifest,
    ManifestEntry,
    read_manifest,
    resolve_duplicates,
    write_manifest,
)
from rc2l_bench.data.datasets.folder_masks import class_of_value, default_palette, to_indices
from rc2l_bench.data.datasets.folder_parts import assign_parts, list_files
from rc2l_bench.data.image_headers import read_header, without_orientation
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.files import say
from rc2l_bench.readers import read_picture_file
from rc2l_bench.types import IGNORE

T = TypeVar("T")


class Folder(Dataset):
    """Images and masks in folders of the user."""

    def __init__(self, path: Path) -> None:
        """Read the description, no image.

        Raises:
            UsageError: the description is wrong.
        """
        self.path = path
        self.name = path.stem
        self.config = load(FolderConfig, path)
        self.classes = self.config.names
        self.palette = tuple(self.config.colours or default_palette(len(self.classes)))
        self.licence, self.pool = self.config.licence, self.config.pool
        self.rare_classes = tuple(self.config.rare_classes)

    @cached_property
    def canvas(self) -> tuple[int, int]:
        """Give height and width as written, else the largest that `prepare` found.

        Raises:
            BenchError: nothing is written, and `prepare` has not been through.
        """
        if self.config.canvas:
            return self.config.canvas
        # Not from the images: whoever asks for the canvas on the way to tuning must not open those that are scored.
        entries = list(self._entries(RAW / self.name))
        return max((one.height for one in entries), default=1), max((one.width for one in entries), default=1)

    @cached_property
    def files(self) -> Files:
        """Find images and masks by id.

        Raises:
            UsageError: none are there, or they do not belong together.
        """
        return self._named(lambda: find_files(self.config))

    @cached_property
    def parts(self) -> dict[str, str]:
        """Find the part by id.

        Raises:
            UsageError: the shares, lists or folders do not fit the files.
        """
        files = self.files
        return self._named(lambda: assign_parts(files.images, files.masks, self.config))

    def inputs(self) -> Iterator[Path]:
        """List the user's files: all that `prepare` reads, the description included."""
        yield self.path
        yield from list_files(self.config)
        yield from self.files.images.values()
        yield from self.files.masks.values()
        yield from super().inputs()

    def aliases(self) -> dict[str, str]:
        """Give the paths of images -> id."""
        return {path.as_posix(): identity for identity, path in self.files.images.items()}

    def left(self) -> str | None:
        """Say which files are not used, in one line; None = all are."""
        images = self.files.images
        unlisted = {path: "in no part" for identity, path in images.items() if identity not in self.parts}
        return describe_left(self.files.left | unlisted)

    def prepare(self, raw: Path) -> None:
        """Hash all files and write down which belong together.

        Raises:
            UsageError: the files do not fit the description.
            BenchError: images of one content are in two parts.
        """
        entries = [self._entry(identity) for identity in sorted(self.parts)]
        entries = self._named(lambda: resolve_duplicates(entries, raw, drop=self.config.duplicates == "drop"))
        if told := self.left():
            say(f"{self.path}: {told}")
        write_manifest(raw, Manifest(format=2, config=self._digest, samples=entries))

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        """Yield the samples of a part, masks as class indices; see `Dataset.samples`."""
        for entry in self._entries(raw):
            if entry.part == part and (only is None or entry.id in only):
                image = self._read(entry.image, entry.image_sha256)
                suffix = read_header(image, entry.image).kind  # by the bytes, because names lie
                if self.config.exif == "ignore":
                    image = without_orientation(image, entry.image)
                yield Sample(id=entry.id, part=part, image=image, suffix=suffix, mask=self._mask(entry))

    def verify(self, raw: Path) -> None:
        """Hash all files again.

        Raises:
            BenchError: one is missing or has changed.
        """
        for entry in self._entries(raw):
            self._read(entry.image, entry.image_sha256)
            if entry.mask and entry.mask_sha256:
                self._read(entry.mask, entry.mask_sha256)

    def origin(self, raw: Path, part: str, identity: str, *, mask: bool = False) -> str:
        """Give the path of the image or of the mask."""
        found = next((entry for entry in self._entries(raw) if entry.id == identity and entry.part == part), None)
        return (found and (found.mask if mask else found.image)) or super().origin(raw, part, identity, mask=mask)

    def remedy(self, seen: Collection[int]) -> str:
        """Say what to write into the description; see `Dataset.remedy`."""
        plain = self.config.masks_hold == "indices" and class_of_value(self.config) is None
        if plain and set(seen) == {0, IGNORE} and len(self.classes) == 2:
            first, second = self.classes
            return (
                f"255 is ignored unless {self.path} says what it is: for masks of 0 and 255 write "
                f"`values: {{0: {first}, 255: {second}}}`"
            )
        return (
            f"say in {self.path} which value or colour it has (values, colours), draw other parts, or name it under "
            "rare_classes, if it is so rare"
        )

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self.config.model_dump_json().encode()).hexdigest()

    @property
    def _again(self) -> str:
        return f"run `rc2l-bench data fetch {self.name}`"

    def _named(self, work: Callable[[], T]) -> T:
        """Does something whose errors are about the description, and names it in them."""
        try:
            return work()
        except BenchError as error:
            raise type(error)(f"{self.path}: {error}") from None

    def _entry(self, identity: str) -> ManifestEntry:
        image, mask = self.files.images[identity], self.files.masks.get(identity)
        data = read_picture_file(image)
        header = read_header(data, str(image))
        if header.orientation != 1 and self.config.exif is None:
            raise UsageError(
                f"{image}: is to be turned by its Exif orientation, {header.orientation}: write into {self.path} "
                "whether masks lie on images as viewers show them (`exif: apply`) or on the stored pixels "
                "(`exif: ignore`)"
            )
        height, width = (header.height, header.width) if self.config.exif == "ignore" else header.size
        return ManifestEntry(
            id=identity,
            part=self.parts[identity],  # type: ignore[arg-type]
            height=height,
            width=width,
            image=image.as_posix(),
            image_sha256=hashlib.sha256(data).hexdigest(),
            mask=mask.as_posix() if mask else None,
            mask_sha256=hashlib.sha256(read_picture_file(mask)).hexdigest() if mask else None,
        )

    def _entries(self, raw: Path) -> Iterable[ManifestEntry]:
        manifest = read_manifest(raw, self._again)
        if manifest.config != self._digest:
            raise BenchError(f"{raw}: {self.path} has changed since it was made: {self._again}")
        return manifest.samples

    def _read(self, path: str, digest: str) -> bytes:
        try:
            data = read_picture_file(Path(path))
        except FileNotFoundError:
            raise BenchError(f"{path}: missing, it was there at `data fetch`: put it back, or {self._again}") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise BenchError(f"{path}: has changed since `data fetch`: put it back, or {self._again}")
        return data

    def _mask(self, entry: ManifestEntry) -> bytes | None:
        if entry.mask is None or entry.mask_sha256 is None:
            return None
        return to_indices(self._read(entry.mask, entry.mask_sha256), entry.mask, self.config)
