"""What `make perf` measures: ratios of times taken in turn within one run, so that a slow machine slows both sides."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.table import Table

from rc2l_bench.console import console
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.decode import encode_image, encode_mask
from rc2l_bench.data.fetch import MIRROR

BESIDE = Path("../shared/mirror")


@dataclass(frozen=True, slots=True)
class Row:
    """One ratio.

    Attributes:
        name: what is divided by what.
        measured: the ratio.
        wanted: the bound; None = for information.
        least: whether the bound is the least it may be, not the most.
    """

    name: str
    measured: float
    wanted: float | None = None
    least: bool = True

    @property
    def ok(self) -> bool:
        """Whether the bound is kept."""
        return self.wanted is None or (self.measured >= self.wanted if self.least else self.measured <= self.wanted)


def alternate(
    functions: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of functions that are called in turn; two more rounds before that warm up.

    Args:
        functions: by name.
        rounds: that count.
        clock: `time.perf_counter`, or `time.process_time` for what only computes, on one thread.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 2):
        for name, function in functions.items():
            begin = clock()
            function()
            seconds[name].append(clock() - begin)
    return {name: statistics.median(values[2:]) for name, values in seconds.items()}


def show(rows: Iterable[Row]) -> None:
    """Prints ratios as a table."""
    table = Table("name", "measured", "wanted", "ok")
    for row in rows:
        wanted = "" if row.wanted is None else f"{'≥' if row.least else '≤'} {row.wanted:g}"
        table.add_row(row.name, f"{row.measured:.2f}", wanted, "yes" if row.ok else "[bold red]no[/]")
    console.print(table)


def find_images(scratch: Path, count: int) -> list[tuple[Path, Path]]:
    """Files of CamVid, image and mask, where a mirror has them; else generated ones of the same size.

    Args:
        scratch: an empty folder for what has to be unpacked or generated.
        count: how many at most.
    """
    if MIRROR not in os.environ and BESIDE.is_dir():
        os.environ[MIRROR] = str(BESIDE)
    if MIRROR in os.environ:
        load_dataset("camvid").prepare(scratch)
        images = sorted(path for part in ("train", "val", "test") for path in (scratch / part).glob("*.png"))
        return [(path, scratch / f"{path.parent.name}annot" / path.name) for path in images[:count]]
    console.print(f"{MIRROR} is not set: generated PNGs of 480×360 instead of CamVid")
    generate(scratch, min(count, 100))
    return [(path, scratch / "masks" / path.name) for path in sorted((scratch / "images").iterdir())]


def generate(folder: Path, count: int) -> None:
    """Writes PNGs with the size and about the compressibility of CamVid's into images/ and masks/."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
            (480, 360), Image.Resampling.BICUBIC
        )
        noisy = np.clip(np.asarray(coarse, np.int16) + rng.integers(-6, 7, (360, 480, 3)), 0, 255).astype(np.uint8)
        (folder / "images" / f"{number:04d}.png").write_bytes(encode_image(noisy))
        areas = Image.fromarray(rng.integers(0, 12, (9, 12), dtype=np.uint8)).resize(
            (480, 360), Image.Resampling.NEAREST
        )
        (folder / "masks" / f"{number:04d}.png").write_bytes(encode_mask(np.asarray(areas)))
