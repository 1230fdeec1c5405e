"""`cityscapes`: the finely annotated street scenes, 19 classes, 1024×2048; 2,975 / 500 / 1,525 images.

Both zips are read in place. Masks are made of `*_gtFine_labelIds.png`; the `labelTrainIds` that other codes read are
not in the archive. The masks of the test part are private: what the zip holds for it are placeholders, not read here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rc2l_bench.data.datasets.base import Dataset, Sample, Source
from rc2l_bench.data.datasets.members import Members, ZipMembers
from rc2l_bench.data.decode import decode_mask, encode_mask
from rc2l_bench.data.fetch import fetch, mention_unpacked
from rc2l_bench.errors import BenchError
from rc2l_bench.types import IGNORE

TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15,
    31: 16, 32: 17, 33: 18,
}  # fmt: skip
"""labelId -> class; every other labelId is ignored (cityscapesscripts, helpers/labels.py)."""
LABEL_IDS = range(34)
"""What a mask may hold, besides 255, the table's -1 (licence plate) in 8 bits."""
_CLASS_OF = np.array([TRAIN_IDS.get(label, IGNORE) for label in range(256)], np.uint8)
_SIZES = "gtFine_trainvaltest.zip (252,567,705 bytes) and leftImg8bit_trainvaltest.zip (11,592,327,197 bytes)"
_LOGIN = (
    f"Cityscapes is two files, {_SIZES}: register at https://www.cityscapes-dataset.com, then download both with the "
    "browser, or `pip install cityscapesscripts` and `csDownload gtFine_trainvaltest.zip leftImg8bit_trainvaltest.zip`."
)
_HINT = "run `rc2l-bench data fetch cityscapes`"
_MEMBER = re.compile(r"(?:leftImg8bit|gtFine)/(\w+)/([^/_]+)/(\2_\d{6}_\d{6})_(?:leftImg8bit|gtFine_labelIds)\.png")


class Cityscapes(Dataset):
    """Street scenes from a car in 50 cities."""

    name = "cityscapes"
    classes = (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    )  # fmt: skip
    palette = (
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0),
        (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    )  # fmt: skip
    canvas = (1024, 2048)
    licence = "Cityscapes' own licence: for research and teaching, not to be passed on"
    sources = (
        Source(
            name="gtFine_trainvaltest.zip",
            url="https://www.cityscapes-dataset.com/file-handling/?packageID=1",
            size=252_567_705,
            checksum="md5:4237c19de34c8a376e9ba46b495d6f66",
            licence=licence,
            login=_LOGIN,
        ),
        Source(
            name="leftImg8bit_trainvaltest.zip",
            url="https://www.cityscapes-dataset.com/file-handling/?packageID=3",
            size=11_592_327_197,
            checksum="md5:0a6e97e94b616a514066c9e2adb0c97f",
            licence=licence,
            login=_LOGIN,
        ),
    )
    counts: Mapping[str, int] = {"train": 2_975, "val": 500, "test": 1_525}
    """Images of each part."""

    def prepare(self, raw: Path) -> None:
        """Bring both archives and check that every image has its mask.

        Raises:
            BenchError: an archive is not there, is not the published one, or lacks a member.
        """
        done = self.present(raw)
        if not done:
            mention_unpacked(raw, ("leftImg8bit", "gtFine"))
        for source in self.sources:
            fetch(source, raw)
        if not done:
            self._check(raw)

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        """The samples of a part, masks as classes; the test part has none; see `Dataset.samples`."""
        yield from self._read(raw, part, only, with_masks=part != "test")

    def images(self, raw: Path, part: str) -> Iterator[Sample]:
        """The samples without masks; see `Dataset.images`."""
        yield from self._read(raw, part, None, with_masks=False)

    def origin(self, raw: Path, part: str, identity: str, *, mask: bool = False) -> str:
        """Archive and member."""
        annotation, image = (raw / source.name for source in self.sources)
        return f"{annotation}: {_mask(part, identity)}" if mask else f"{image}: {_image(part, identity)}"

    def _read(self, raw: Path, part: str, only: Collection[str] | None, *, with_masks: bool) -> Iterator[Sample]:
        with self._open(raw) as (masks, images):
            for identity in _ids(images, part):
                if only is None or identity in only:
                    mask = _read_mask(masks, _mask(part, identity)) if with_masks else None
                    image = images.read(_image(part, identity))
                    yield Sample(id=identity, part=part, image=image, suffix="png", mask=mask)

    @contextmanager
    def _open(self, raw: Path) -> Iterator[tuple[Members, Members]]:
        annotation, image = (raw / source.name for source in self.sources)
        with ZipMembers(annotation, _HINT) as masks, ZipMembers(image, _HINT) as images:
            yield masks, images

    def _check(self, raw: Path) -> None:
        """Makes sure that parts have as many images as published, and that each has a mask and each mask an image."""
        with self._open(raw) as (masks, images):
            ids = {part: _ids(images, part) for part in self.counts}
            for part in ("train", "val"):
                masks.require(_mask(part, identity) for identity in ids[part])
                images.require(_image(part, identity) for identity in _ids(masks, part))
            found = {part: len(names) for part, names in ids.items()}
            if found != self.counts:
                raise BenchError(f"{raw}: the archives hold {found} images, expected {dict(self.counts)}")


def _image(part: str, identity: str) -> str:
    return f"leftImg8bit/{part}/{identity.split('_')[0]}/{identity}_leftImg8bit.png"


def _mask(part: str, identity: str) -> str:
    return f"gtFine/{part}/{identity.split('_')[0]}/{identity}_gtFine_labelIds.png"


def _ids(members: Members, part: str) -> list[str]:
    """Sorted ids of the images or masks of a part."""
    found = (_MEMBER.fullmatch(name) for name in members.names)
    return sorted(match[3] for match in found if match and match[1] == part)


def _read_mask(masks: Members, name: str) -> bytes:
    """A mask as PNG of classes.

    Raises:
        BenchError: it is damaged, or holds a label that Cityscapes does not have.
    """
    labels = decode_mask(masks.read(name), f"{masks.path}: {name}")
    if labels.max() >= len(LABEL_IDS):
        counts = np.bincount(labels.ravel(), minlength=IGNORE)[len(LABEL_IDS) : IGNORE]
        if counts.any():
            label = int(np.flatnonzero(counts)[0])
            fault = f"label {len(LABEL_IDS) + label} at {counts[label]} pixels; Cityscapes has 0..33"
            raise BenchError(f"{masks.path}: {name}: {fault}")
    return encode_mask(_CLASS_OF[labels], stored=True)
