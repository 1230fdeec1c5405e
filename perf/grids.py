"""`python -m perf.grids`: a grid of long runs on many GPUs, simulated; the figures of docs/SCALING.md.

What a run asks of the store is counted by carrying one out with the real code, without a training. How long a run takes
follows from the FLOPs of its steps (docs/COST.md) and from a speed that is assumed, like everything in `Fleet`.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import tempfile
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from rc2l_bench.console import console
from rc2l_bench.errors import PreemptedError
from rc2l_bench.run.far_runs import sharing
from rc2l_bench.run.far_store import FolderStore
from rc2l_bench.run.leases import BEAT
from rc2l_bench.run.store import Run
from rc2l_bench.seals import FILES, RECORD, list_files, seal

TFLOP = (4.48, 4.46, 10.38, 10.38, 19.61, 20.92, 12.25, 10.11)
"""Of a step of the eight methods of docs/COST.md: VOC, ResNet-101, crop 513, batch 8 + 8."""
STEPS, IMAGES = 40_000, 16
BEAT_REQUESTS = 2  # a look at the leases, and the holder's own written again
REQUESTS = ("list", "read", "fetch", "write", "put", "create", "remove")


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """What is assumed; none of it was measured. Bytes are of a ResNet-101 with 47 million parameters."""

    speed: float = 10.0  # TFLOP/s that a training gets out of a GPU
    lost_after: float = 24.0  # hours after which a GPU is taken away, on average
    notice: bool = True  # whether a training is told before, and leaves a checkpoint
    minutes: float = 30.0  # runtime.share_minutes
    starting: float = 60.0  # seconds from a free GPU to the first step
    image: float = 0.115  # MB
    result: float = 190.0  # MB, weights included
    state: float = 760.0  # MB of a checkpoint: two networks and two moments of the optimiser


class CountingStore(FolderStore):
    """A folder that counts what an object store would be asked."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked = 0

    def __getattribute__(self, name: str) -> Any:  # noqa: ANN401
        if name in REQUESTS:
            self.asked += 1
        return super().__getattribute__(name)

    def since(self) -> int:
        """Requests since the last time."""
        asked, self.asked = self.asked, 0
        return asked


def count_requests() -> dict[str, int]:
    """Requests of a run that is stopped once and goes on on another machine, by what it does."""
    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder), CountingStore(Path(folder) / "store")
        one, two = Run(root / "one", "f" * 64), Run(root / "two", "f" * 64)
        with contextlib.suppress(PreemptedError), sharing(one, 1e-9, store=store):
            found["start"] = store.since()
            for step in (1, 2, 3):  # from the third on an older one goes
                one.folder.mkdir(parents=True, exist_ok=True)
                path = one.folder / f"step-{step:08d}.ckpt"
                path.write_bytes(hashlib.sha256(b"x").digest() + b"x")
                one.saved(path)
                found["checkpoint"] = store.since()
            raise PreemptedError("")
        store.since()
        with sharing(two, 1e-9, store=store) as put:
            found["continue"] = store.since()
            two.finish(lambda result: _fill(result, two.name))
            put()
        found["end"] = store.since()
        with sharing(one, 0, store=store):
            found["hand out"] = store.since()
    return found


def _fill(folder: Path, name: str) -> None:
    (folder / "metrics.json").write_text("{}")
    (folder / RECORD).write_bytes(seal({"fingerprint": name, FILES: list_files(folder)}))


def simulate(runs: int, gpus: int, fleet: Fleet, requests: dict[str, int]) -> dict[str, float]:
    """Carry out a grid, event by event; an event is a GPU that is free again. Returns a row of the table."""
    rng = np.random.default_rng(0)
    asked, moved, sessions, busy, lost, end = Counter[int](), Counter[int](), 0, 0.0, 0.0, 0.0

    def note(when: float, what: str, size: float) -> None:
        asked[int(when // 60)] += requests[what]
        moved[int(when // 60)] += size

    waiting = deque((TFLOP[number % len(TFLOP)] * STEPS / fleet.speed, False) for number in range(runs))
    free = [(0.0, gpu) for gpu in range(gpus)]
    while waiting:
        now, gpu = heapq.heappop(free)
        work, begun = waiting.popleft()
        note(now, "continue" if begun else "start", fleet.state * begun)
        limit = rng.exponential(fleet.lost_after * 3600)
        lasts = min(fleet.starting + work, limit)
        done, every = max(0.0, lasts - fleet.starting), 60 * fleet.minutes
        saved = done // every * every
        for when in np.arange(every, saved + 1, every):
            note(now + fleet.starting + float(when), "checkpoint", fleet.state)
        if done < work:
            kept = done if fleet.notice else saved
            note(now + lasts, "checkpoint", fleet.state * fleet.notice)
            waiting.appendleft((work - kept, begun or kept > 0))
            lost += done - kept
        else:
            note(now + lasts, "end", fleet.result)
        sessions, busy, end = sessions + 1, busy + lasts, max(end, now + lasts)
        heapq.heappush(free, (now + lasts, gpu))
    images, beats = gpus * IMAGES * fleet.speed / (sum(TFLOP) / len(TFLOP)), BEAT_REQUESTS * busy / BEAT
    return {
        "runs": runs, "GPUs": gpus, "days": end / 86400, "sessions": sessions, "lost GPU hours": lost / 3600,
        "requests/s": (asked.total() + beats) / end, "peak": max(asked.values()) / 60 + BEAT_REQUESTS * gpus / BEAT,
        "MB/s": moved.total() / end, "peak MB/s": max(moved.values()) / 60,
        "TB kept": runs * fleet.result / 1e6, "images/s": images,
        "MB/s of images": images * fleet.image,
    }  # fmt: skip


def main() -> None:
    """Prints the tables."""
    requests, fleet = count_requests(), Fleet()
    console.print(f"requests of a run: {requests}; {BEAT_REQUESTS} a minute while it is held")
    cases = [(200, gpus, fleet) for gpus in (1, 8, 64)] + [(10_000, gpus, fleet) for gpus in (64, 1000)]
    cases += [(200, 64, Fleet(notice=False)), (200, 64, Fleet(notice=False, minutes=10.0))]
    rows = [simulate(*case, requests) for case in cases]
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:,.0f}" if value >= 10 else f"{value:.2g}" for value in row.values()))
    console.print(table)


if __name__ == "__main__":
    main()
