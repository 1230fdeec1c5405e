"""`ade20k`: scenes of all kinds, 150 classes; 20,210 training and 2,000 validation images.

The version of MIT's scene parsing challenge of 2016, read in place. Its masks hold 0 for whatever is none of the
classes, which is ignored, and 1..150 for the classes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from rc2l_bench.data.datasets.base import Dataset, Sample, Source
from rc2l_bench.data.datasets.members import Members, ZipMembers
from rc2l_bench.data.datasets.palettes import by_bits
from rc2l_bench.data.decode import decode_mask, encode_mask
from rc2l_bench.data.fetch import fetch, mention_unpacked
from rc2l_bench.data.image_headers import without_orientation
from rc2l_bench.errors import BenchError
from rc2l_bench.types import IGNORE

TOP = "ADEChallengeData2016"
"""Folder in the zip."""
_FOLDERS = {"train": "training", "val": "validation"}
_MEMBER = re.compile(rf"{TOP}/(?:images|annotations)/(training|validation)/(ADE_(?:train|val)_\d{{8}})\.(?:jpg|png)")
_HINT = "run `rc2l-bench data fetch ade20k`"


class Ade20k(Dataset):
    """Photographs of rooms, streets and landscapes in which every thing has a class."""

    name = "ade20k"
    classes = (
        "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass", "cabinet",
        "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water",
        "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence", "desk",
        "rock", "wardrobe", "lamp", "bathtub", "railing", "cushion", "base", "box", "column", "signboard",
        "chest of drawers", "counter", "sand", "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path",
        "stairs", "runway", "case", "pool table", "pillow", "screen door", "stairway", "river", "bridge", "bookcase",
        "blind", "coffee table", "toilet", "flower", "book", "hill", "bench", "countertop", "stove", "palm",
        "kitchen island", "computer", "swivel chair", "boat", "bar", "arcade machine", "hovel", "bus", "towel", "light",
        "truck", "tower", "chandelier", "awning", "streetlight", "booth", "television receiver", "airplane",
        "dirt track", "apparel", "pole", "land", "bannister", "escalator", "ottoman", "bottle", "buffet", "poster",
        "stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer", "plaything", "swimming pool", "stool",
        "barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step", "tank",
        "trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen", "blanket", "sculpture",
        "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier", "crt screen", "plate", "monitor",
        "bulletin board", "shower", "radiator", "glass", "clock", "flag",
    )  # fmt: skip
    palette = by_bits(1, 150)
    canvas = (4096, 4096)
    """Ours: the publisher says of no largest size, only that large images were scaled to a shorter side of 512."""
    usual = (512, 683)
    """Of such an image, 4:3."""
    licence = "images: for research and teaching only; masks: BSD 3-Clause (MIT scene parsing)"
    sources = (
        Source(
            name="ADEChallengeData2016.zip",
            url="http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
            size=None,
            checksum="md5:7328b3957e407ddae1d3cbf487f149ef",
            licence=licence,
        ),
    )
    counts: Mapping[str, int] = {"train": 20_210, "val": 2_000}
    """Images of each part; the masks of the challenge's test part are not public."""

    def prepare(self, raw: Path) -> None:
        """Bring the archive and check that every image has its mask.

        Raises:
            BenchError: the archive cannot be had, is not the published one, or lacks a member.
        """
        done = self.present(raw)
        if not done:
            mention_unpacked(raw, (TOP,))
        fetch(self.sources[0], raw)
        if not done:
            self._check(raw)

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        """The samples of a part, masks as classes; see `Dataset.samples`."""
        yield from self._read(raw, part, only, with_masks=True)

    def images(self, raw: Path, part: str) -> Iterator[Sample]:
        """The samples without masks; see `Dataset.images`."""
        yield from self._read(raw, part, None, with_masks=False)

    def origin(self, raw: Path, part: str, identity: str, *, mask: bool = False) -> str:
        """Archive and member."""
        return f"{raw / self.sources[0].name}: {_mask(part, identity) if mask else _image(part, identity)}"

    def _read(self, raw: Path, part: str, only: Collection[str] | None, *, with_masks: bool) -> Iterator[Sample]:
        if part not in self.counts:
            return
        with ZipMembers(raw / self.sources[0].name, _HINT) as members:
            for identity in _ids(members, part, "images"):
                if only is None or identity in only:
                    name = _image(part, identity)
                    # Masks lie on the stored pixels, whatever a camera has written about its position.
                    image = without_orientation(members.read(name), name)
                    mask = _read_mask(members, _mask(part, identity)) if with_masks else None
                    yield Sample(id=identity, part=part, image=image, suffix="jpg", mask=mask)

    def _check(self, raw: Path) -> None:
        """Makes sure that parts have as many images as published, and that each has a mask and each mask an image."""
        with ZipMembers(raw / self.sources[0].name, _HINT) as members:
            ids = {part: _ids(members, part, "images") for part in self.counts}
            for part, names in ids.items():
                members.require(_mask(part, identity) for identity in names)
                members.require(_image(part, identity) for identity in _ids(members, part, "annotations"))
        found = {part: len(names) for part, names in ids.items()}
        if found != self.counts:
            raise BenchError(f"{raw}: the archive holds {found} images, expected {dict(self.counts)}")


def _image(part: str, identity: str) -> str:
    return f"{TOP}/images/{_FOLDERS[part]}/{identity}.jpg"


def _mask(part: str, identity: str) -> str:
    return f"{TOP}/annotations/{_FOLDERS[part]}/{identity}.png"


def _ids(members: Members, part: str, kind: str) -> list[str]:
    """Sorted ids of the images or annotations of a part."""
    found = (_MEMBER.fullmatch(name) for name in members.names if name.startswith(f"{TOP}/{kind}/"))
    return sorted(match[2] for match in found if match and match[1] == _FOLDERS[part])


def _read_mask(members: Members, name: str) -> bytes:
    """A mask as PNG of classes: 0 is ignored, 1..150 become 0..149.

    Raises:
        BenchError: it is damaged, or holds a label that ADE20K does not have.
    """
    labels = decode_mask(members.read(name), f"{members.path}: {name}")
    most = len(Ade20k.classes)
    if labels.max(initial=0) > most:
        label = int(labels[labels > most][0])
        fault = f"label {label} at {int((labels == label).sum())} pixels; ADE20K has 0..{most}"
        raise BenchError(f"{members.path}: {name}: {fault}")
    return encode_mask(np.where(labels == 0, np.uint8(IGNORE), labels - np.uint8(1)), stored=True)
