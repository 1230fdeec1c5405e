"""`folder`: the user's own images, described by `datasets/<name>.yaml`, without code."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from rc2l_bench.config import Model, load
from rc2l_bench.data.datasets.base import Dataset, Sample, Suffix
from rc2l_bench.data.datasets.folder_config import FolderConfig
from rc2l_bench.data.datasets.folder_files import IMAGES, MASKS, draw_parts, find, listed_parts, pair
from rc2l_bench.data.datasets.folder_masks import default_palette, to_indices
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.files import write_atomically

MANIFEST = "manifest.json"
_KINDS: tuple[tuple[bytes, Suffix], ...] = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpg"))


class ManifestEntry(Model):
    """One sample of the manifest."""

    id: str
    part: Literal["train", "val", "test"]
    image: str
    image_sha256: str
    mask: str | None
    mask_sha256: str | None


class Manifest(Model):
    """What `prepare` found: the files stay where they are, and must not change afterwards."""

    format: Annotated[int, Field(ge=1, le=1)]
    config: str
    """sha256 of the yaml's content."""
    samples: list[ManifestEntry]
    """Sorted by id."""


class Folder(Dataset):
    """Images and masks in folders of the user."""

    def __init__(self, path: Path) -> None:
        """Reads the description, no image.

        Raises:
            UsageError: the description is wrong.
        """
        self.path = path
        self.name = path.stem
        self.config = load(FolderConfig, path)
        self.classes = tuple(self.config.classes)
        self.palette = tuple(self.config.colours or default_palette(len(self.classes)))
        self.licence = self.config.licence

    @cached_property
    def canvas(self) -> tuple[int, int]:
        """Height and width as given, else the largest found in the headers of the images."""
        if self.config.canvas:
            return self.config.canvas
        heights, widths = zip(*map(_header_size, self.files[0].values()), strict=True)
        return max(heights), max(widths)

    @cached_property
    def files(self) -> tuple[dict[str, Path], dict[str, Path]]:
        """Images and masks by id.

        Raises:
            UsageError: none are there, or they do not belong together.
        """
        try:
            images = find("images", self.config.images, IMAGES)
            masks = find("masks", self.config.masks, MASKS)
            pair(images, masks, unlabelled=self.config.unlabelled)
        except UsageError as error:
            raise UsageError(f"{self.path}: {error}") from None
        return images, masks

    @cached_property
    def parts(self) -> dict[str, str]:
        """Part by id.

        Raises:
            UsageError: the lists or shares do not fit the files.
        """
        images, masks = self.files
        try:
            if self.config.lists:
                return listed_parts(images, masks, self.config.lists)
            assert self.config.shares is not None, self.path
            return draw_parts(images, masks, self.config.shares)
        except UsageError as error:
            raise UsageError(f"{self.path}: {error}") from None

    def prepare(self, raw: Path) -> None:
        """Hashes all files and writes down which belong together.

        Raises:
            UsageError: the files do not fit the description.
        """
        images, masks = self.files
        entries = [self._entry(identity, images[identity], masks.get(identity)) for identity in sorted(self.parts)]
        manifest = Manifest(format=1, config=self._digest, samples=entries)
        data = manifest.model_dump_json(indent=1).encode() + b"\n"
        if not (raw / MANIFEST).is_file() or (raw / MANIFEST).read_bytes() != data:
            write_atomically(raw / MANIFEST, data)

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        """The samples of a part, masks as class indices; see `Dataset.samples`."""
        for entry in self._entries(raw):
            if entry.part == part and (only is None or entry.id in only):
                image = self._read(entry.image, entry.image_sha256)
                mask = self._mask(entry)
                yield Sample(id=entry.id, part=part, image=image, suffix=_suffix(image, entry.image), mask=mask)

    def verify(self, raw: Path) -> None:
        """Hashes all files again.

        Raises:
            BenchError: one is missing or has changed.
        """
        for entry in self._entries(raw):
            self._read(entry.image, entry.image_sha256)
            if entry.mask and entry.mask_sha256:
                self._read(entry.mask, entry.mask_sha256)

    def origin(self, raw: Path, part: str, identity: str, *, mask: bool = False) -> str:
        """The path of the image or of the mask."""
        found = next((entry for entry in self._entries(raw) if entry.id == identity and entry.part == part), None)
        return (found and (found.mask if mask else found.image)) or super().origin(raw, part, identity, mask=mask)

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self.config.model_dump_json().encode()).hexdigest()

    @property
    def _again(self) -> str:
        return f"run `rc2l-bench data fetch {self.name}`"

    def _entry(self, identity: str, image: Path, mask: Path | None) -> ManifestEntry:
        return ManifestEntry(
            id=identity,
            part=self.parts[identity],  # type: ignore[arg-type]
            image=image.as_posix(),
            image_sha256=hashlib.sha256(image.read_bytes()).hexdigest(),
            mask=mask.as_posix() if mask else None,
            mask_sha256=hashlib.sha256(mask.read_bytes()).hexdigest() if mask else None,
        )

    def _entries(self, raw: Path) -> list[ManifestEntry]:
        path = raw / MANIFEST
        if not path.is_file():
            raise BenchError(f"{path}: missing: {self._again}")
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
        except ValidationError:
            raise BenchError(f"{path}: damaged: {self._again}") from None
        if manifest.config != self._digest:
            raise BenchError(f"{path}: {self.path} has changed since it was made: {self._again}")
        return manifest.samples

    def _read(self, path: str, digest: str) -> bytes:
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError:
            raise BenchError(f"{path}: missing, it was there at `data fetch`: put it back, or {self._again}") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise BenchError(f"{path}: has changed since `data fetch`: put it back, or {self._again}")
        return data

    def _mask(self, entry: ManifestEntry) -> bytes | None:
        if entry.mask is None or entry.mask_sha256 is None:
            return None
        return to_indices(self._read(entry.mask, entry.mask_sha256), entry.mask, self.config)


def _suffix(image: bytes, path: str) -> Suffix:
    """By the bytes, because names lie."""
    for start, suffix in _KINDS:
        if image.startswith(start):
            return suffix
    raise BenchError(f"{path}: neither a PNG nor a JPEG, whatever its name says: convert it")


def _header_size(path: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            return image.height, image.width
    except OSError as error:
        raise BenchError(f"{path}: no readable image ({' '.join(str(error).split())[:80]})") from None
