"""How fast archives of full-size images become shards, and in how much memory. `python -m perf.archives`.

The archives are generated in the layout of the real ones. Processor seconds count, not those on the clock, because
others use the disk too.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from perf import Row, alternate, show
from rc2l_bench.data import packing
from rc2l_bench.data.datasets.base import Dataset
from rc2l_bench.data.datasets.cityscapes import Cityscapes
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.datasets.voc import MASKS, SBD_TOP, TOP, Voc

ROUNDS = 5
IMAGES = {"voc": 2_000, "cityscapes": 60}
CLEAN = 277
"""Of the VOC images, as 1,464 of 10,582."""
DIFFERENT = 20
"""Pictures that take turns."""


def scene(seed: int, height: int, width: int, classes: int, noise: int) -> tuple[Image.Image, np.ndarray]:
    """A picture about as hard to compress as a photograph, and classes in areas with ragged borders."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + rng.integers(-noise, noise + 1, smooth.shape), 0, 255).astype(np.uint8)
    areas = Image.fromarray(rng.random((9, 12), dtype=np.float32) * classes).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return Image.fromarray(noisy), np.clip(np.asarray(areas), 0, classes - 1).astype(np.uint8)


def save(image: Image.Image, kind: str) -> bytes:
    """Bytes of a file."""
    data = io.BytesIO()
    image.save(data, kind, quality=93) if kind == "JPEG" else image.save(data, kind)
    return data.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Appends a member."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def write_voc(raw: Path) -> None:
    """VOC's tar and what is kept of SBD's."""
    ids = [f"2099_{number:06d}" for number in range(IMAGES["voc"])]
    text = {"train": "\n".join(ids[:CLEAN]), "val": "", "more": "\n".join(ids[CLEAN:])}
    images, clean, other = [], [], []
    for seed in range(DIFFERENT):
        image, mask = scene(seed, 375, 500, 21, 26)
        images.append(save(image, "JPEG"))
        palette = Image.fromarray(mask)
        palette.putpalette([value for colour in Voc.palette for value in colour])
        clean.append(save(palette, "PNG"))
        data: Any = io.BytesIO()  # the stubs of scipy know paths only
        savemat(data, {"GTcls": {"Segmentation": mask}}, do_compression=True)
        other.append(data.getvalue())
    with tarfile.open(raw / Voc.sources[0].name, "w") as voc, tarfile.open(raw / MASKS, "w") as sbd:
        for part in ("train", "val"):
            add(voc, f"{TOP}/ImageSets/Segmentation/{part}.txt", text[part].encode())
            add(sbd, f"{SBD_TOP}/{part}.txt", text["more" if part == "train" else "val"].encode())
        for number, identity in enumerate(ids):
            add(voc, f"{TOP}/Annotations/{identity}.xml", bytes(800))
            add(voc, f"{TOP}/JPEGImages/{identity}.jpg", images[number % DIFFERENT])
            if number < CLEAN:
                for folder in ("SegmentationClass", "SegmentationObject"):
                    add(voc, f"{TOP}/{folder}/{identity}.png", clean[number % DIFFERENT])
            else:
                add(sbd, f"{SBD_TOP}/cls/{identity}.mat", other[number % DIFFERENT])


def write_cityscapes(raw: Path) -> None:
    """Both zips."""
    images, masks = [], []
    for seed in range(DIFFERENT):
        image, mask = scene(seed, 1024, 2048, 34, 2)
        images.append(save(image, "PNG"))
        masks.append(save(Image.fromarray(mask), "PNG"))
    annotation, image_zip = (zipfile.ZipFile(raw / s.name, "w", zipfile.ZIP_DEFLATED) for s in Cityscapes.sources)
    with annotation, image_zip:
        for number in range(IMAGES["cityscapes"]):
            stem = f"train/nowhere/nowhere_{number:06d}_000019"
            image_zip.writestr(f"leftImg8bit/{stem}_leftImg8bit.png", images[number % DIFFERENT])
            annotation.writestr(f"gtFine/{stem}_gtFine_labelIds.png", masks[number % DIFFERENT])


def read_tar(path: Path) -> Iterator[bytes]:
    """Every member, in the order of the archive."""
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            yield file.read()


def read_zip(path: Path) -> Iterator[bytes]:
    """Every member, in the order of the archive."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield archive.read(name)


def hash_all(members: Iterator[bytes]) -> None:
    """The least that anybody does who wants to know what is in an archive."""
    for data in members:
        hashlib.sha256(data).digest()


def pack(dataset: Dataset, raw: Path, out: Path, *, with_masks: bool) -> None:
    """Builds the shards of the training part, hashes and fsync included."""
    samples = dataset.samples(raw, "train") if with_masks else dataset.images(raw, "train")
    packing.write(out, samples, dataset.meta(), "train", 256, with_masks=with_masks)


def peak_mb(name: str, raw: Path, out: Path) -> float:
    """Peak resident memory of a process that packs the training part with its masks (Linux)."""
    command = [sys.executable, "-m", "perf.archives", name, str(raw), str(out)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def rates(dataset: Dataset, read: Callable[[], Iterator[bytes]], raw: Path, out: Path) -> Iterator[Row]:
    """What is measured of a data set whose archives lie in `raw`."""

    def tidy() -> None:
        shutil.rmtree(out, ignore_errors=True)

    functions: dict[str, Callable[[], object]] = {
        "read": lambda: hash_all(read()),
        "tidy": tidy,
        "pool": lambda: pack(dataset, raw, out, with_masks=False),
        "tidy again": tidy,
        "masks": lambda: pack(dataset, raw, out, with_masks=True),
    }
    seconds = alternate(functions, ROUNDS, time.process_time)
    tidy()
    count = IMAGES[dataset.name]
    what = f"{dataset.name}, {count} images:"
    yield Row(f"{what} rate of the pool / reading and hashing", seconds["read"] / seconds["pool"], 0.5)
    yield Row(f"{what} rate with masks / reading and hashing", seconds["read"] / seconds["masks"])
    yield Row(f"{what} seconds of the pool per 1,000", seconds["pool"] * 1000 / count)
    yield Row(f"{what} seconds with masks per 1,000", seconds["masks"] * 1000 / count)
    yield Row(f"{what} peak memory, MB", peak_mb(dataset.name, raw, out), 500, least=False)


def measure() -> list[Row]:
    """The rate of sharding by the rate of reading the archive and hashing its members; peak memory."""
    rows: list[Row] = []
    kinds = (
        (Voc(), write_voc, lambda raw: read_tar(raw / Voc.sources[0].name)),
        (Cityscapes(), write_cityscapes, lambda raw: read_zip(raw / Cityscapes.sources[1].name)),
    )
    for dataset, fill, read in kinds:
        with TemporaryDirectory(dir=".") as folder:
            raw = Path(folder) / "raw"
            raw.mkdir()
            fill(raw)
            rows += rates(dataset, partial(read, raw), raw, Path(folder) / "out")
    return rows


if __name__ == "__main__":
    if sys.argv[1:]:
        pack(load_dataset(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), with_masks=True)
        # Not getrusage, whose peak begins with that of the process that started this one.
        status = Path("/proc/self/status").read_text()
        print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
    else:
        show(measure())
