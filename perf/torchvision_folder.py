"""How fast batches come from shards, by torchvision's way from a folder of files. `python -m perf.torchvision_folder`.

Both bring an image from the disk to a crop of 321 with a random scale from 0.5 to 2 and a random flip, which is where a
GPU takes over; the same number of loader processes, one thread each. Torchvision reads by its `ImageFolder` as it is,
which has a bound, and by its faster decoder in place of Pillow, for information. Ours keeps decoded images as
params.yaml says where the data set fits (CamVid does), and keeps none where it stands for one that does not.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from perf import Row, alternate, find_images, show
from perf.augmentation import BATCH, forever, protocol, taker
from rc2l_bench.config import Params, load
from rc2l_bench.data import packing
from rc2l_bench.data.datasets.base import Sample
from rc2l_bench.data.geometry import Geometry
from rc2l_bench.data.loader import training_batches
from rc2l_bench.data.reader import Stream
from rc2l_bench.data.selection import everything
from rc2l_bench.data.shards import Shards

IMAGES, WORKERS, ROUNDS = 160, 2, 7
CAMVID, JPEG = (360, 480), (375, 500)
"""Height and width of CamVid's images, and of the usual picture of VOC."""


def read_fast(path: str) -> torch.Tensor:
    """Read a file with torchvision's own decoder."""
    return decode_image(path, ImageReadMode.RGB)


def from_folder(folder: Path, size: tuple[int, int], reader: Callable[[str], Any]) -> Iterator[object]:
    """Batches (B, 3, 321, 321) of uint8 by torchvision, from files in one class folder."""
    crop = v2.Compose([
        v2.ToImage(),
        v2.RandomHorizontalFlip(),
        v2.ScaleJitter(size, protocol().weak.scale, antialias=True),
        v2.RandomCrop(protocol().crop[0], pad_if_needed=True),
    ])  # fmt: skip
    files = ImageFolder(folder, transform=crop, loader=reader)
    return forever(DataLoader(
        files, BATCH, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=True
    ))  # fmt: skip


def from_shards(packed: Shards, cache_mb: int) -> Iterator[object]:
    """Batches of windows, as a training on a GPU takes them."""
    stream = Stream(name="unlabelled", shards=packed, selection=everything(len(packed)), batch=BATCH)
    options = {"workers": WORKERS, "cache_mb": cache_mb}
    return training_batches([stream], Geometry(protocol(), 0), start=0, stop=10**6, **options)


def write_jpegs(folder: Path) -> list[Path]:
    """JPEGs with the size and about the bytes of VOC's, 90 kB each."""
    folder.mkdir(parents=True)
    for number in range(IMAGES):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(JPEG[::-1], Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + rng.integers(-24, 25, smooth.shape), 0, 255).astype(np.uint8)
        target = io.BytesIO()
        Image.fromarray(noisy).save(target, "JPEG", quality=90)
        (folder / f"{number:04d}.jpg").write_bytes(target.getvalue())
    return sorted(folder.iterdir())


def compare(files: list[Path], size: tuple[int, int], cache_mb: int, scratch: Path) -> dict[str, float]:
    """Seconds of torchvision's ways by ours."""
    meta = {"name": "perf", "classes": ["one"], "palette": [[0, 0, 0]], "canvas": [2000, 2000]}
    (scratch / "folder/images").mkdir(parents=True)
    samples = []
    for number, file in enumerate(files):
        data, suffix = file.read_bytes(), "jpg" if file.suffix == ".jpg" else "png"
        (scratch / "folder/images" / file.name).write_bytes(data)
        samples.append(Sample(id=f"{number:04d}", part="train", image=data, suffix=suffix, mask=None))
    packing.write(scratch / "shards", samples, meta, "train", 64, with_masks=False)
    ours = from_shards(Shards(scratch / "shards"), cache_mb)
    next(ours)
    readers = {"ImageFolder": default_loader, "torchvision.io": read_fast}
    takers = {name: taker(from_folder(scratch / "folder", size, reader)) for name, reader in readers.items()}
    seconds = alternate(takers | {"ours": taker(ours)}, ROUNDS)
    ours.close()  # type: ignore[attr-defined]
    return {name: seconds[name] / seconds["ours"] for name in readers}


def measure() -> list[Row]:
    """Both kinds of images."""
    torch.set_num_threads(1)
    rows = []
    with TemporaryDirectory() as folder:
        root = Path(folder)
        camvid = [image for image, _ in find_images(root / "raw", IMAGES)]
        kept = load(Params, Path("params.yaml")).runtime.cache_mb
        cases = {
            "CamVid": (camvid, CAMVID, kept, 4.0),
            "CamVid, none kept": (camvid, CAMVID, 0, None),
            "500×375 JPEG, none kept": (write_jpegs(root / "jpegs"), JPEG, 0, 2.0),
        }
        for title, (files, size, cache_mb, wanted) in cases.items():
            for name, ratio in compare(files, size, cache_mb, root / title).items():
                bound = wanted if name == "ImageFolder" else None
                rows.append(Row(f"batches/s from shards / by {name}, {title}, {WORKERS} workers", ratio, bound))
    return rows


if __name__ == "__main__":
    show(measure())
