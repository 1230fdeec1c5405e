"""From images on the disk to one weak and two strong views. `python -m perf.augmentation`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from perf import Row, alternate, find_images, show
from perf.released import FolderOfImages
from perf.sharding import META, read
from rc2l_bench.config import MixConfig, Params, Protocol, Views, load
from rc2l_bench.data import packing
from rc2l_bench.data.augment import Augmenter
from rc2l_bench.data.geometry import cut
from rc2l_bench.data.loader import training_batches
from rc2l_bench.data.reader import Stream, Windows
from rc2l_bench.data.selection import everything
from rc2l_bench.data.shards import Shards
from rc2l_bench.run.hardware import keep_memory
from rc2l_bench.types import Batch

IMAGES, BATCH, STEPS, ROUNDS = 160, 8, 10, 5
CPU = torch.device("cpu")
PHOTO, SMALL = (3000, 4000), (600, 800)
"""Height and width of a photograph of 12 megapixels, and of an image of half of one."""


def protocol() -> Protocol:
    """The recipe with crops of 321 and scales from 0.5 to 2."""
    return load(Params, Path("params.yaml")).recipes["voc_r50_321"]


def tool() -> Augmenter:
    """One weak and two strong views, each with a box on half of the images."""
    mix = MixConfig(probability=0.5, boxes=1, area=(0.02, 0.4), ratio=(0.3, 3.3))
    return Augmenter(protocol(), Views(strong=2, recolour=True, mix=mix), 0, CPU)


def forever(loader: DataLoader[object]) -> Iterator[object]:
    """The batches of a loader, epoch after epoch."""
    while True:
        yield from loader


def taker(batches: Iterator[object]) -> Callable[[], None]:
    """What takes a few batches, as a training would."""

    def take() -> None:
        for _ in itertools.islice(batches, STEPS):
            pass

    return take


def ours(packed: Shards, workers: int) -> Iterator[Batch]:
    """Batches of unlabelled images alone, as fast as they come."""
    augmenter = tool()
    stream = Stream(name="unlabelled", shards=packed, selection=everything(len(packed)), batch=BATCH)

    def finish(windows: Windows, step: int) -> Batch:
        return augmenter([], windows[0], step)

    options = {"start": 0, "stop": 10**6, "workers": workers, "finish": finish}
    for step, found in enumerate(training_batches([stream], augmenter.geometry, **options)):
        yield found if isinstance(found, Batch) else finish(found, step)


def compare(workers: int) -> Row:
    """Time of the released way by ours, with as many processes, on images of CamVid or of its size."""
    with TemporaryDirectory() as folder:
        files = find_images(Path(folder) / "raw", IMAGES)
        packing.write(Path(folder) / "shards", read(files), META, "train", 64, with_masks=False)
        released = DataLoader(
            FolderOfImages([image for image, _ in files], protocol().crop[0]), BATCH, shuffle=True,
            num_workers=workers, drop_last=True, persistent_workers=workers > 0,
        )  # fmt: skip
        mine = ours(Shards(Path(folder) / "shards"), workers)
        functions = {"released": taker(forever(released)), "ours": taker(mine)}
        seconds = alternate(functions, ROUNDS)
        mine.close()  # type: ignore[attr-defined]
    name = f"disk to views: time of the released UniMatch path / ours, {workers} workers"
    return Row(name, seconds["released"] / seconds["ours"], 2.0)


def measure_photographs() -> Row:
    """Time of windows and views of photographs by that of small images, both decoded before."""
    augmenter = tool()
    pictures = {size: np.asarray(Image.effect_noise(size[::-1], 80).convert("RGB")) for size in (PHOTO, SMALL)}
    numbers = itertools.count()

    def views(size: tuple[int, int]) -> Callable[[], object]:
        image, sizes = pictures[size], torch.tensor(size).expand(BATCH, 2)

        def make() -> None:
            step = next(numbers) // 2  # both get the same draws
            frames = augmenter.geometry.frames("unlabelled", step, sizes)
            augmenter([], [cut("x", frame, image, None) for frame in frames], step)

        return make

    seconds = alternate({"photo": views(PHOTO), "small": views(SMALL)}, 15)
    return Row(
        "augmentation of 12 megapixels / of 0.5, beyond decoding", seconds["photo"] / seconds["small"], 1.5, False
    )


def measure() -> list[Row]:
    """Both ratios."""
    torch.set_num_threads(1)
    keep_memory()
    return [compare(0), compare(2), measure_photographs()]


if __name__ == "__main__":
    show(measure())
