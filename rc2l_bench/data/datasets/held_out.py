"""`tuning-<dataset>`: the training images of a data set, a share of which is held out and scored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from rc2l_bench.config import TUNING
from rc2l_bench.data.datasets.base import Dataset, Sample
from rc2l_bench.draws import derive


class HeldOut(Dataset):
    """The training images of another data set, parted in two. Its validation and test parts are never asked for."""

    def __init__(self, base: Dataset, share: float, seed: int) -> None:
        """Part the training images by hashing (seed, id), so that an image's part does not depend on the others.

        Args:
            base: the data set.
            share: of its training images that become the part `val`.
            seed: of the draw.
        """
        self.base = base
        self.name = f"{TUNING}{base.name}"
        self.classes, self.palette, self.licence, self.pool = base.classes, base.palette, base.licence, base.pool
        # Nobody can choose other parts here, so a class that the draw left out is told and not refused.
        self.rare_classes = base.classes
        self.threshold = round(share * 2**32)
        self.seed = seed

    @property
    def canvas(self) -> tuple[int, int]:
        """See `Dataset.canvas`."""
        return self.base.canvas

    def _home(self, raw: Path) -> Path:
        """Where the data set itself keeps its files: they are not fetched twice."""
        return raw.parent / self.base.name

    def _held(self, identity: str) -> bool:
        return derive(self.seed, f"tuning/{identity}") % 2**32 < self.threshold

    def prepare(self, raw: Path) -> None:
        """Prepare the data set itself; `raw` stays an empty folder."""
        self.base.prepare(self._home(raw))
        raw.mkdir(parents=True, exist_ok=True)

    def inputs(self) -> Iterable[Path]:
        """See `Dataset.inputs`."""
        return self.base.inputs()

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        """Yield training images; see `Dataset.samples`. A held-out image without a mask is in no part."""
        if part == "test":
            return
        for sample in self.base.samples(self._home(raw), "train", only):
            held = self._held(sample.id)
            if held == (part == "val") and (not held or sample.mask is not None):
                yield replace(sample, part=part)

    def images(self, raw: Path, part: str) -> Iterator[Sample]:
        """Yield the images of `train` without reading a mask, of other parts by `samples`."""
        if part != "train":
            yield from super().images(raw, part)
            return
        yield from (sample for sample in self.base.images(self._home(raw), "train") if not self._held(sample.id))

    def verify(self, raw: Path) -> None:
        """Verify the data set itself."""
        self.base.verify(self._home(raw))

    def present(self, raw: Path) -> bool:
        """Whether the data set itself is there."""
        return self.base.present(self._home(raw))

    def origin(self, raw: Path, part: str, identity: str, *, mask: bool = False) -> str:  # noqa: ARG002
        """See `Dataset.origin`."""
        return self.base.origin(self._home(raw), "train", identity, mask=mask)
