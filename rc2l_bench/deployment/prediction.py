"""Predict photos: as the run was scored where they are of the size it knows, through windows where they are larger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from rc2l_bench.config import Sliding
from rc2l_bench.console import describe
from rc2l_bench.deployment.loading import LoadedRun
from rc2l_bench.deployment.photo_files import ALPHA, ArrayRows, Rows, is_large_tiff, read_photo
from rc2l_bench.deployment.photo_list import PhotoSource, fetched
from rc2l_bench.deployment.prediction_files import MASKS, ClassShares, Extras, PhotoWriter, write_origin, write_shares
from rc2l_bench.deployment.tiff_rows import open_tiff
from rc2l_bench.deployment.windows import Band, WindowedNetwork, decide
from rc2l_bench.errors import BenchError, is_out_of_memory

Pixels = NDArray[np.uint8]

LARGE = 4
"""A picture of more pixels than so many times the canvas of the data set is seen through windows: what is larger was
never scored, and memory grows with it (our choice)."""
STRIDE = 2 / 3
"""Of windows where the protocol has none, as in the published codes."""


@dataclass
class Outcome:
    """What became of the pictures.

    Attributes:
        done: a row per picture that was predicted.
        failed: what is wrong with the others, by origin.
        remarks: what was done to pictures that is worth a word, and to how many.
    """

    done: list[ClassShares] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Waiting:
    """A picture that waits for others of its size."""

    source: PhotoSource
    pixels: Pixels


class PhotoPrediction:
    """The pictures of one call, with one run."""

    def __init__(
        self, run: LoadedRun, out: Path, extras: Extras, *, fit: bool, told: Callable[[str, str], None]
    ) -> None:
        """Prepare.

        Args:
            run: the network.
            out: folder of results.
            extras: what is written beside the masks.
            fit: scale pictures that are larger than the canvas of the data set down to it, instead of using windows.
            told: hears of every picture that is done: its origin, and what is wrong with it or nothing.
        """
        self.run = run
        self.out = out
        self.extras = extras
        self.fit = fit
        self.told = told
        area = run.usual[0] * run.usual[1]
        self.most = LARGE * area
        self.together = max(LARGE, run.protocol.eval.batch) * area
        rule = run.protocol.eval.protocol
        window = Sliding(mode="sliding", window=run.protocol.crop, stride=STRIDE, combine="softmax")
        self.rule = rule if isinstance(rule, Sliding) else window
        self.windows = WindowedNetwork(run.network, self.rule, run.protocol.eval, run.protocol.image_scale, run.device)
        self.waiting: dict[tuple[int, int], list[Waiting]] = {}
        self.outcome = Outcome()

    def carry_out(self, sources: Sequence[PhotoSource]) -> Outcome:
        """Predict all pictures; one that cannot be is noted, and the rest is done."""
        try:
            for source in sources:
                self._take(source)
            for size in list(self.waiting):
                self._flush(size)
        finally:
            # Also after Ctrl-C: what is done is done, and stands in the table.
            write_shares(self.out, self.outcome.done, self.run.classes)
            write_origin(self.out, self.describe())
        return self.outcome

    def describe(self) -> dict[str, Any]:
        """Say what makes the pictures: run, classes, colours, how large pictures are seen."""
        run, protocol = self.run, self.run.protocol
        return {
            "cell": run.record["cell"], "fingerprint": run.record["fingerprint"], "classes": run.classes,
            "palette": [list(colour) for colour in run.palette], "evaluation": protocol.eval.model_dump(mode="json"),
            "image_scale": protocol.image_scale, "fit": self.fit, "windows_above_pixels": self.most,
            "windows": self.rule.model_dump(mode="json"), "device": str(run.device), "done": len(self.outcome.done),
            "failed": self.outcome.failed,
        }  # fmt: skip

    def _take(self, source: PhotoSource) -> None:
        """Read a picture and predict it now, or with others of its size."""
        with self._noting(source), fetched(source) as path:
            with readable():
                large = is_large_tiff(path)
                pixels, remark = (None, "") if large else read_photo(path)
            if pixels is None:
                with open_tiff(path) as rows:
                    self._remark(rows.alpha)
                    self._slide(source, rows)
                return
            self._remark(remark == ALPHA)
            size = pixels.shape[0], pixels.shape[1]
            if self.fit and any(side > most for side, most in zip(size, self.run.usual, strict=True)):
                self._write(source, size, "fit", [decide_fitted(self.run, pixels)])
            elif size[0] * size[1] > self.most:
                self._slide(source, ArrayRows(pixels))
            else:
                self.waiting.setdefault(size, []).append(Waiting(source, pixels))
        # Pictures of other sizes wait, too, and all are in memory.
        if sum(map(self._area, self.waiting)) >= self.together:
            self._flush(max(self.waiting, key=self._area))

    def _area(self, size: tuple[int, int]) -> int:
        return size[0] * size[1] * len(self.waiting[size])

    def _flush(self, size: tuple[int, int]) -> None:
        """Predict the pictures of one size together; one by one where the memory does not hold them together."""
        group = self.waiting.pop(size)
        try:
            self._predict(group, size)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            for one in group:
                with self._noting(one.source):
                    self._predict([one], size)

    def _predict(self, group: Sequence[Waiting], size: tuple[int, int]) -> None:
        probabilities = self.run.logits(np.stack([one.pixels for one in group])).softmax(1)
        # All before the first is written: where the memory runs out the group is predicted again, one by one.
        bands = [decide(one.pixels, scores) for one, scores in zip(group, probabilities, strict=True)]
        for one, band in zip(group, bands, strict=True):
            self._write(one.source, size, "whole", [band])

    def _slide(self, source: PhotoSource, rows: Rows) -> None:
        self._write(source, rows.size, "windows", self.windows.slide(rows, self.most))

    def _write(self, source: PhotoSource, size: tuple[int, int], view: str, bands: Iterable[Band]) -> None:
        """Write the pictures of one photo, and its row."""
        palette, origin = self.run.palette, source.title
        shares = ClassShares(origin, f"{MASKS}/{source.name}.png", size, view, np.zeros(len(palette), np.int64))
        with PhotoWriter(self.out, source.name, shares, palette, self.extras) as writer:
            for band in bands:
                writer.write(band)
        self.outcome.done.append(shares)
        self.told(origin, "")

    def _remark(self, alpha: bool) -> None:
        if alpha:
            self.outcome.remarks[ALPHA] += 1

    @contextmanager
    def _noting(self, source: PhotoSource) -> Iterator[None]:
        """Note what goes wrong with a picture, and go on. Errors of the folder of results are passed on: they stay."""
        try:
            yield
        except BenchError as error:
            self._fail(source, str(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self._fail(source, "needs more memory than there is: --fit scales it down")

    def _fail(self, source: PhotoSource, reason: str) -> None:
        fault = reason.removeprefix(f"{source.title}: ")
        self.outcome.failed[source.title] = fault
        self.told(source.title, fault)


@contextmanager
def readable() -> Iterator[None]:
    """Tell that a picture cannot be read, as a fault of that picture."""
    try:
        yield
    except OSError as error:
        raise BenchError(describe(error)) from None


def decide_fitted(run: LoadedRun, pixels: Pixels) -> Band:
    """Predict a picture that is scaled down to the canvas of the data set; probabilities are scaled up again.

    One class at a time, because those of all classes at the size of a photo would fill the memory.
    """
    height, width = pixels.shape[:2]
    factor = min(most / side for most, side in zip(run.usual, (height, width), strict=True))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    small = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BOX)
    scores = run.logits(np.array(small)[None]).softmax(1)[0]
    best = torch.full((height, width), -1.0, device=run.device)
    classes = torch.zeros((height, width), dtype=torch.uint8, device=run.device)
    for index, score in enumerate(scores):
        large = F.interpolate(score[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
        better = large > best
        classes[better], best = index, torch.maximum(best, large)
    return Band(pixels, classes.cpu().numpy(), best.cpu().numpy())
