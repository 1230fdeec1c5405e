"""`voc`: PASCAL VOC 2012 with the extra training masks of SBD; 10,582 training and 1,449 validation images.

The training images are those of VOC's train list and those of SBD, without VOC's val list. 1,464 of their masks are
VOC's own (the `classic` label pool, in the literature "clean" or "high quality"); the others are SBD's and have no void
border. Where both have a mask, VOC's is taken.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from rc2l_bench.data.archives import AGAIN, MemberInfo
from rc2l_bench.data.datasets.base import Dataset, Sample, Source
from rc2l_bench.data.datasets.members import Members, TarMembers, plain
from rc2l_bench.data.decode import encode_mask
from rc2l_bench.data.fetch import fetch, is_stamped, mention_unpacked, stamp
from rc2l_bench.data.image_headers import without_orientation
from rc2l_bench.errors import BenchError
from rc2l_bench.files import exclusive, naming, say, sync
from rc2l_bench.readers import reading

TOP = "VOCdevkit/VOC2012"
"""Folder in VOC's tar."""
SBD_TOP = "benchmark_RELEASE/dataset"
"""Folder in SBD's tar."""
MASKS = "benchmark-cls.tar"
"""What is kept of SBD's 1.4 GB, because a compressed tar can only be read from its beginning: lists and class masks."""
_NEEDED = {
    (f"{TOP}/JPEGImages", ".jpg"),
    (f"{TOP}/SegmentationClass", ".png"),
    (f"{TOP}/ImageSets/Segmentation", ".txt"),
    (f"{SBD_TOP}/cls", ".mat"),
    (SBD_TOP, ".txt"),
}
"""Folder and suffix of what is read."""
_HINT = "run `rc2l-bench data fetch voc`"


class Voc(Dataset):
    """Photographs with 20 kinds of objects."""

    name = "voc"
    classes = (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    )  # fmt: skip
    palette = (
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128),
        (128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128),
        (64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
    )  # fmt: skip
    canvas = (500, 500)
    licence = "images: Flickr's terms of use; VOC 2012 and SBD masks: for research, see their home pages"
    sources = (
        Source(
            name="VOCtrainval_11-May-2012.tar",
            url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            size=1_999_639_040,
            checksum="sha256:e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
            licence=licence,
        ),
        Source(
            name="benchmark.tgz",
            url="https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
            size=1_419_539_633,
            checksum="md5:82b4d87ceb2ed10f6038a1cba92111cb",
            licence=licence,
        ),
    )
    counts: Mapping[str, int] = {"train": 10_582, "val": 1_449}
    """Images of each part; there is no test part, whose masks nobody has."""

    def prepare(self, raw: Path) -> None:
        """Bring both archives, take SBD's masks out of theirs, and checks that every member is there.

        Raises:
            BenchError: an archive cannot be had, is not the published one, or lacks a member.
        """
        if not self.present(raw):
            mention_unpacked(raw, ("VOCdevkit", "VOC2012", "benchmark_RELEASE"))
        for source in self.sources:
            fetch(source, raw)
        with exclusive(raw / MASKS):
            if not is_stamped(self.made, raw / MASKS):
                _keep_masks(raw / self.sources[1].name, raw / MASKS)
                self._check(raw)
                stamp(self.made, raw / MASKS)

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        """The samples of a part; VOC's masks are the bytes of its palette PNGs; see `Dataset.samples`."""
        yield from self._read(raw, part, only, with_masks=True)

    def images(self, raw: Path, part: str) -> Iterator[Sample]:
        """The samples without masks; see `Dataset.images`."""
        yield from self._read(raw, part, None, with_masks=False)

    def origin(self, raw: Path, part: str, identity: str, *, mask: bool = False) -> str:  # noqa: ARG002
        """Archive and member."""
        with self._open(raw) as (voc, sbd):
            clean = identity in _lists(voc, sbd)[1]
        if mask and not clean:
            return f"{raw / MASKS}: {_sbd(identity)}"
        return f"{raw / self.sources[0].name}: {_mask(identity) if mask else _image(identity)}"

    def _read(self, raw: Path, part: str, only: Collection[str] | None, *, with_masks: bool) -> Iterator[Sample]:
        if part not in self.counts:
            return
        with self._open(raw) as (voc, sbd):
            parts, clean = _lists(voc, sbd)
            for identity in parts[part]:
                if only is None or identity in only:
                    # VOC's masks lie on the stored pixels, whatever a camera has written about its position.
                    image, mask = without_orientation(voc.read(_image(identity)), _image(identity)), None
                    if with_masks:
                        mask = voc.read(_mask(identity)) if identity in clean else _read_sbd(sbd, identity)
                    yield Sample(id=identity, part=part, image=image, suffix="jpg", mask=mask)

    @property
    def made(self) -> Source:
        """SBD's masks, as good as the archive that they are from."""
        return replace(self.sources[1], name=MASKS, size=None)

    @contextmanager
    def _open(self, raw: Path) -> Iterator[tuple[Members, Members]]:
        with (
            TarMembers(raw / self.sources[0].name, _is_needed, _HINT) as voc,
            TarMembers(raw / MASKS, _is_needed, _HINT) as sbd,
        ):
            yield voc, sbd

    def _check(self, raw: Path) -> None:
        """Makes sure that the lists have as many images as published, and that all their files are there."""
        with self._open(raw) as (voc, sbd):
            parts, clean = _lists(voc, sbd)
            found = {part: len(ids) for part, ids in parts.items()}
            if found != self.counts:
                raise BenchError(f"{raw}: the lists in the archives have {found} images, expected {dict(self.counts)}")
            voc.require(_image(identity) for ids in parts.values() for identity in ids)
            voc.require(map(_mask, sorted(clean)))
            sbd.require(_sbd(identity) for identity in parts["train"] if identity not in clean)


def _image(identity: str) -> str:
    return f"{TOP}/JPEGImages/{identity}.jpg"


def _mask(identity: str) -> str:
    return f"{TOP}/SegmentationClass/{identity}.png"


def _sbd(identity: str) -> str:
    return f"{SBD_TOP}/cls/{identity}.mat"


def _is_needed(name: str) -> bool:
    """Whether a member of either archive is read at all."""
    folder, _, file = name.rpartition("/")
    return (folder, Path(file).suffix) in _NEEDED


def _keep_masks(archive: Path, target: Path) -> None:
    """Copies lists and class masks of SBD to a plain tar, which appears as a whole.

    Raises:
        BenchError: the archive is damaged.
    """
    say(f"{archive}: taking out the masks, once")
    part = target.with_name(f"{target.name}.part")
    try:
        with (
            naming(part),
            reading(archive, AGAIN),
            tarfile.open(archive, "r|gz", tarinfo=MemberInfo) as tar,
            tarfile.open(part, "w") as kept,
        ):
            for member in tar:
                if member.isreg() and _is_needed(plain(member.name)):
                    kept.addfile(member, tar.extractfile(member))
        with part.open("rb") as file:
            sync(file)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _lists(voc: Members, sbd: Members) -> tuple[dict[str, list[str]], frozenset[str]]:
    """Sorted ids of the parts, and the ids whose masks are VOC's own."""
    train, val = (_ids(voc, f"{TOP}/ImageSets/Segmentation/{part}.txt") for part in ("train", "val"))
    more = _ids(sbd, f"{SBD_TOP}/train.txt") | _ids(sbd, f"{SBD_TOP}/val.txt")
    return {"train": sorted((train | more) - val), "val": sorted(val)}, frozenset(train | val)


def _ids(members: Members, name: str) -> set[str]:
    return set(members.read(name).decode("ascii").split())


def _read_sbd(sbd: Members, identity: str) -> bytes:
    """A mask of SBD as PNG.

    Raises:
        BenchError: it is damaged.
    """
    data, name = sbd.read(_sbd(identity)), f"{sbd.path}: {_sbd(identity)}"
    try:
        file: Any = io.BytesIO(data)  # the stubs of scipy know paths only
        mask = loadmat(file, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    except Exception as error:  # scipy lets errors of many types through on damaged bytes
        raise BenchError(f"{name}: no GTcls.Segmentation, the file is damaged ({type(error).__name__})") from None
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise BenchError(f"{name}: GTcls.Segmentation is {mask.dtype} {mask.shape}, expected uint8 with two axes")
    return encode_mask(mask, stored=True)
