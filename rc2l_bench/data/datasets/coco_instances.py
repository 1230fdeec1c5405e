"""`coco_instances`: COCO 2017 with masks made here of its instances; 118,287 training and 5,000 validation images.

80 classes of things and the background. Codes of the field use masks whose making is not public, under the name `coco`;
these are others, made by `coco_masks.paint`, so the data set has another name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from rc2l_bench.data.datasets.base import Dataset, Sample, Source
from rc2l_bench.data.datasets.coco_masks import paint
from rc2l_bench.data.datasets.coco_regions import open_regions, write_regions
from rc2l_bench.data.datasets.members import Members, ZipMembers
from rc2l_bench.data.datasets.palettes import by_bits
from rc2l_bench.data.decode import encode_mask, size_of
from rc2l_bench.data.fetch import fetch, is_stamped, mention_unpacked, stamp
from rc2l_bench.data.image_headers import without_orientation
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.files import exclusive, say

TABLE = "regions.db"
"""What is made of the annotations, see `coco_regions`."""
FORM = 1
"""Of the table: to be raised with `CATEGORIES` or what `write_regions` keeps, so that older tables are made anew."""
CATEGORIES = (
    *range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83), *range(84, 91),
)  # fmt: skip
"""COCO's number of each class but the background, in the order of the labels."""
_LICENCE = "images: Flickr's terms of use; annotations: CC BY 4.0"
_HINT = "run `rc2l-bench data fetch coco_instances`"


def _source(folder: str, name: str, size: int, md5: str) -> Source:
    url = f"http://images.cocodataset.org/{folder}/{name}"
    return Source(name=name, url=url, size=size, checksum=f"md5:{md5}", licence=_LICENCE)


class CocoInstances(Dataset):
    """Photographs of everyday scenes with 80 kinds of things."""

    name = "coco_instances"
    classes = (
        "background", "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
        "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep",
        "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
        "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
        "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
        "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
        "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
        "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier",
        "toothbrush",
    )  # fmt: skip
    palette = by_bits(0, 81)
    canvas = (640, 640)
    licence = _LICENCE
    sources = (
        _source("annotations", "annotations_trainval2017.zip", 252_907_541, "f4bbac642086de4f52a3fdda2de5fa2c"),
        _source("zips", "train2017.zip", 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2"),
        _source("zips", "val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80"),
    )
    counts: Mapping[str, int] = {"train": 118_287, "val": 5_000}
    """Images of each part; the annotations of test are not public."""

    def prepare(self, raw: Path) -> None:
        """Bring the archives, make a table of the annotations, and check that every image is there.

        Raises:
            UsageError: the packages that read COCO's annotations are not installed.
            BenchError: an archive cannot be had, is not the published one, or does not go with the others.
        """
        _require_packages()
        if not self.present(raw):
            mention_unpacked(raw, ("annotations", "train2017", "val2017"))
        for source in self.sources:
            fetch(source, raw)
        with exclusive(raw / TABLE):
            if not is_stamped(self.made, raw / TABLE):
                self._make_table(raw)
                self._check(raw)
                stamp(self.made, raw / TABLE)

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        """The samples of a part, with masks as `coco_masks.paint` makes them; see `Dataset.samples`."""
        if part not in self.counts:
            return
        with open_regions(raw / TABLE) as table:
            sizes = table.sizes(part)
            for sample in self._images(raw, part, only):
                number, where = int(sample.id), self.origin(raw, part, sample.id, mask=True)
                size = size_of(sample.image, self.origin(raw, part, sample.id))
                if sizes.get(number) != size:
                    raise BenchError(f"{where}: the image has {size[0]}×{size[1]} pixels, its regions are of another")
                mask = paint(size, table.of_image(part, number), where)
                yield replace(sample, mask=encode_mask(mask, stored=True))

    def images(self, raw: Path, part: str) -> Iterator[Sample]:
        """The samples without masks; see `Dataset.images`."""
        yield from self._images(raw, part, None)

    def origin(self, raw: Path, part: str, identity: str, *, mask: bool = False) -> str:
        """Archive and member; of a mask, what it is made of."""
        if mask:
            return f"{raw / self.sources[0].name}: {_annotations(part)}: regions of {identity}"
        return f"{raw / f'{part}2017.zip'}: {_image(part, identity)}"

    def _images(self, raw: Path, part: str, only: Collection[str] | None) -> Iterator[Sample]:
        if part not in self.counts:
            return
        with ZipMembers(raw / f"{part}2017.zip", _HINT) as members:
            for identity in _ids(members, part):
                if only is None or identity in only:
                    name = _image(part, identity)
                    # Regions lie on the stored pixels, whatever a camera has written about its position.
                    image = without_orientation(members.read(name), name)
                    yield Sample(id=identity, part=part, image=image, suffix="jpg", mask=None)

    @property
    def made(self) -> Source:
        """The table, as good as the archive that it is made of and the form in which it is made."""
        return replace(self.sources[0], name=TABLE, size=None, checksum=f"{self.sources[0].checksum}, form {FORM}")

    def _make_table(self, raw: Path) -> None:
        archive, target = raw / self.sources[0].name, raw / f"{TABLE}.part"
        say(f"{archive}: sorting the regions by image, once")
        labels = {number: label for label, number in enumerate(CATEGORIES, start=1)}
        names = dict(zip(CATEGORIES, self.classes[1:], strict=True))
        target.unlink(missing_ok=True)
        try:
            with ZipMembers(archive, _HINT) as members:
                parts = {part: _annotations(part) for part in self.counts}
                write_regions(members, parts, labels, names, self.canvas, target)
            target.replace(raw / TABLE)
        finally:
            target.unlink(missing_ok=True)

    def _check(self, raw: Path) -> None:
        """Makes sure that parts have as many images as published, in the archives and in the annotations."""
        found = {}
        with ExitStack() as stack:
            table = stack.enter_context(open_regions(raw / TABLE))
            for part in self.counts:
                members = stack.enter_context(ZipMembers(raw / f"{part}2017.zip", _HINT))
                listed = [f"{number:012d}" for number in table.sizes(part)]
                members.require(_image(part, identity) for identity in listed)
                found[part] = len(_ids(members, part))
                if found[part] != len(listed):
                    fault = f"{found[part]} images, but {raw / self.sources[0].name} knows of {len(listed)}"
                    raise BenchError(f"{members.path}: {fault}")
        if found != self.counts:
            raise BenchError(f"{raw}: the archives hold {found} images, expected {dict(self.counts)}")


def _annotations(part: str) -> str:
    return f"annotations/instances_{part}2017.json"


def _image(part: str, identity: str) -> str:
    return f"{part}2017/{identity}.jpg"


def _ids(members: Members, part: str) -> list[str]:
    """Sorted ids of the images of a part."""
    names = (Path(name) for name in members.names if name.startswith(f"{part}2017/"))
    return sorted(path.stem for path in names if path.suffix == ".jpg" and path.stem.isdecimal())


def _require_packages() -> None:
    """Makes sure that what reads the annotations is installed, before gigabytes are fetched."""
    missing = [name for name in ("ijson", "pycocotools") if find_spec(name) is None]
    if missing:
        raise UsageError(f"coco_instances needs {' and '.join(missing)}: pip install 'rc2l-bench[coco]'")
