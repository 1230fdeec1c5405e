"""Small samples that several test files pack into shards."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from rc2l_bench.data.datasets.base import Dataset, Sample
from rc2l_bench.data.decode import encode_image, encode_mask
from rc2l_bench.data.packing import write
from rc2l_bench.data.shards import Shards

META = {
    "name": "tiny",
    "classes": ["sky", "road", "tree"],
    "palette": [[0, 0, 0], [128, 64, 128], [0, 128, 0]],
    "canvas": [24, 32],
}


def picture(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask of a size of its own, up to 24 × 32."""
    rng = np.random.default_rng(number)
    size = (24 - number % 3, 32 - number % 5)
    mask = np.where(rng.random(size) < 0.1, 255, rng.integers(0, 3, size)).astype(np.uint8)
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8), mask


def make_samples(count: int, *, part: str = "train", masks: bool = True, start: int = 0) -> list[Sample]:
    """Samples `a.000`, `a.001`, …, whose ids hold a dot to make it harder."""
    samples = []
    for number in range(start, start + count):
        image, mask = picture(number)
        label = encode_mask(mask, stored=True) if masks else None
        data = encode_image(image, stored=True)
        samples.append(Sample(id=f"a.{number:03d}", part=part, image=data, suffix="png", mask=label))
    return samples


def make_shards(folder: Path, count: int, *, per_shard: int = 4, masks: bool = True) -> Shards:
    """Packs such samples."""
    write(folder, make_samples(count), META, "train", per_shard, with_masks=masks)
    return Shards(folder)


def make_others(folder: Path) -> Shards:
    """Images 4 to 11 without masks: of a pool of six, two of them are in it, too, under the same names."""
    write(folder, make_samples(8, start=4), META, "train", 3, with_masks=False)
    return Shards(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Packed(Dataset):
    """Twelve training and five validation samples, no test part."""

    name = META["name"]
    classes = tuple(META["classes"])
    palette = tuple(map(tuple, META["palette"]))
    canvas = tuple(META["canvas"])

    def prepare(self, raw: Path) -> None:
        raise NotImplementedError

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:  # noqa: ARG002
        count = {"train": 12, "val": 5, "test": 0}[part]
        for sample in make_samples(count, part=part, start=100 if part == "val" else 0):
            if only is None or sample.id in only:
                yield sample
