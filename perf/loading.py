"""How fast images and masks are read and decoded from shards, by a folder of files. `python -m perf.loading`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from perf import Row, alternate, find_images, show
from perf.sharding import META, SAMPLES_PER_SHARD, read
from rc2l_bench.data import packing
from rc2l_bench.data.loader import evaluation_batches
from rc2l_bench.data.shards import Shards

ROUNDS = 5
IMAGES = 160
BATCH = 4


class Folder(Dataset[tuple[Tensor, Tensor]]):
    """The usual way: one file per image, Pillow."""

    def __init__(self, files: list[tuple[Path, Path]]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        image, mask = self.files[position]
        with Image.open(image) as picture, Image.open(mask) as label:
            pixels = np.array(picture.convert("RGB"))
            return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), torch.from_numpy(np.array(label))


def measure() -> list[Row]:
    """Images per second from shards by images per second from files, with as many workers."""
    torch.set_num_threads(1)
    rows = []
    with TemporaryDirectory() as folder:
        files = find_images(Path(folder) / "raw", IMAGES)
        packing.write(Path(folder) / "shards", read(files), META, "train", SAMPLES_PER_SHARD, with_masks=True)
        packed = Shards(Path(folder) / "shards")
        for workers in (0, 2):
            loader = DataLoader(Folder(files), batch_size=BATCH, shuffle=True, num_workers=workers)

            def from_files(loader: DataLoader[tuple[Tensor, Tensor]] = loader) -> None:
                for _ in loader:
                    pass

            def from_shards(workers: int = workers) -> None:
                for _ in evaluation_batches(packed, batch=BATCH, workers=workers):
                    pass

            seconds = alternate({"files": from_files, "shards": from_shards}, ROUNDS)
            name = f"images/s from shards / from files with Pillow, {workers} workers"
            rows.append(Row(name, seconds["files"] / seconds["shards"], 2.0))
    return rows


if __name__ == "__main__":
    show(measure())
