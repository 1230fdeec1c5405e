"""How fast shards are built, by `tar cf` on the same files. `python -m perf.sharding`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from perf import Row, alternate, find_images, show
from rc2l_bench.data import packing
from rc2l_bench.data.datasets.base import Sample

ROUNDS = 9
SAMPLES_PER_SHARD = 256
META = {"name": "perf", "classes": ["one"], "palette": [[0, 0, 0]], "canvas": [360, 480]}


def read(files: list[tuple[Path, Path]]) -> Iterator[Sample]:
    """The files as samples, one at a time."""
    for image, mask in sorted(files, key=lambda pair: pair[0].stem):
        data, label = image.read_bytes(), mask.read_bytes()
        yield Sample(id=image.stem, part="train", image=data, suffix="png", mask=label)


def measure() -> list[Row]:
    """The rate of sharding, hashes and fsync included, by the rate of tar, which does neither."""
    with TemporaryDirectory() as folder:
        scratch, out = Path(folder), Path(folder) / "shards"
        files = find_images(scratch / "raw", 10_000)
        listing = scratch / "files"
        listing.write_text("".join(f"{path.absolute()}\n" for pair in files for path in pair))

        def tar() -> None:
            subprocess.run(["tar", "cPf", scratch / "all.tar", "-T", listing], check=True)

        def pack() -> None:
            packing.write(out, read(files), META, "train", SAMPLES_PER_SHARD, with_masks=True)

        def tidy() -> None:
            (scratch / "all.tar").unlink(missing_ok=True)
            shutil.rmtree(out, ignore_errors=True)

        seconds = alternate({"tidy": tidy, "tar": tar, "pack": pack}, ROUNDS)
    return [Row("rate of building shards / rate of tar cf", seconds["tar"] / seconds["pack"], 0.5)]


if __name__ == "__main__":
    show(measure())
