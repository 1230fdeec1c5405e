"""What a pool of a million images costs over one of ten thousand: opening, memory, batches. `python -m perf.pool`.

The lists of samples are made up; their images are the 64 that lie in one small tar, again and again, so that the same
bytes are read and decoded however many there are said to be.
"""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from perf import Row, show
from rc2l_bench.data import packing, sample_table
from rc2l_bench.data.datasets.base import Sample
from rc2l_bench.data.sample_table import TableWriter
from rc2l_bench.data.shards import Shards

FEW, MANY, MOST = 10_000, 1_000_000, 100_000_000
IMAGES, BATCH, STEPS, ROUNDS = 64, 16, 40, 5
CANVAS = (375, 500)
META = {"name": "perf", "classes": ["one"], "palette": [[0, 0, 0]], "canvas": list(CANVAS)}

MEASURE = """
import json, os, sys, time
from pathlib import Path
import psutil, torch
from rc2l_bench.config import Params, load
from rc2l_bench.data.geometry import Geometry
from rc2l_bench.data.loader import training_batches
from rc2l_bench.data.reader import Stream
from rc2l_bench.data.shards import Shards

torch.set_num_threads(1)
folder, workers, steps, rounds, batch = Path(sys.argv[1]), *map(int, sys.argv[2:])
geometry = Geometry(load(Params, Path("params.yaml")).recipes["voc_r50_321"], 0)
me = psutil.Process()
before = me.memory_info().rss
begin = time.perf_counter()
shards = Shards(folder)
labelled = [shards.ids[number * len(shards) // 500] for number in range(500)]
stream = Stream(name="unlabelled", shards=shards, selection=shards.select(labelled, without=True), batch=batch)
opened = time.perf_counter() - begin
batches = training_batches([stream], geometry, start=0, stop=10**9, workers=workers)
next(batches)
first = time.perf_counter() - begin - opened
seconds = []
for _ in range(rounds):
    begin = time.perf_counter()
    for _ in range(steps):
        next(batches)
    seconds.append((time.perf_counter() - begin) / steps)
memory = sum(process.memory_full_info().pss for process in [me, *me.children(recursive=True)]) - before
print(json.dumps({"open": opened, "first": first, "batch": sorted(seconds)[rounds // 2], "memory": memory}))
"""


def make_pool(folder: Path, count: int) -> None:
    """Write shards, and a list that says there are many more samples in them."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        target = io.BytesIO()
        coarse.resize(CANVAS[::-1], Image.Resampling.BICUBIC).save(target, "JPEG", quality=90)
        samples.append(Sample(id=f"{number:03d}", part="train", image=target.getvalue(), suffix="jpg", mask=None))
    packing.write(folder, samples, META, "train", IMAGES, with_masks=False)
    real = Shards(folder)
    entries = list(real.table.entries(range(IMAGES)))
    with TableWriter(folder / "new") as table:
        for number in range(count):
            table.add(dataclasses.replace(entries[number % IMAGES], id=f"{number:012d}"))
    (folder / "new").replace(folder / sample_table.NAME)
    origin = real.index.model_dump(mode="json", include={"dataset", "part", "split", "split_id", "base", "layout"})
    packing.write_index(folder, origin, real.index.shards, table.summary())


def measure_one(folder: Path, workers: int) -> dict[str, float]:
    """Seconds to open, to the first batch and per batch, and bytes that all processes take more than before."""
    arguments = [str(number) for number in (workers, STEPS, ROUNDS, BATCH)]
    command = [sys.executable, "-c", MEASURE, str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure() -> list[Row]:
    """Figures of a million by those of ten thousand, read in turn."""
    rows = []
    with TemporaryDirectory() as scratch:
        folders = {count: Path(scratch) / str(count) for count in (FEW, MANY)}
        for count, folder in folders.items():
            make_pool(folder, count)
        for workers in (0, 4):
            found = {count: [] for count in folders}
            for _ in range(3):
                for count, folder in folders.items():
                    found[count].append(measure_one(folder, workers))
            few, many = ({key: sorted(one[key] for one in runs)[1] for key in runs[0]} for runs in found.values())
            more = (many["memory"] - few["memory"]) / 2**20
            title = f"pool of {MANY:,}, {workers} workers: "
            rows.append(Row(title + "seconds to open", many["open"], 1.0, least=False))
            rows.append(Row(title + f"MiB more than {FEW:,}", more, 300, least=False))
            rows.append(
                Row(title + f"time per batch / that of {FEW:,}", many["batch"] / few["batch"], 1.1, least=False)
            )
            slope = (many["open"] - few["open"]) / (MANY - FEW)
            rows.append(Row(f"pool of {MOST:,}, {workers} workers: seconds to open, extrapolated", slope * MOST))
            rows.append(
                Row(f"pool of {MOST:,}, {workers} workers: GiB, extrapolated", more / (MANY - FEW) * MOST / 1024)
            )
    return rows


if __name__ == "__main__":
    show(measure())
