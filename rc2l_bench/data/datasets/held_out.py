"""`tuning-<dataset>`: the training images of a data set, a share of which is held out and scored."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from rc2l_bench.config import TUNING
from rc2l_bench.data.datasets.base import Dataset, Sample
from rc2l_bench.data.datasets.derived import Derived
from rc2l_bench.draws import derive


class HeldOut(Derived):
    """The training images of another data set, parted in two. Its validation and test parts are never asked for."""

    def __init__(self, base: Dataset, share: float, seed: int) -> None:
        """Part the training images by hashing (seed, id), so that an image's part does not depend on the others.

        Args:
            base: the data set.
            share: of its training images that become the part `val`.
            seed: of the draw.
        """
        super().__init__(f"{TUNING}{base.name}", base)
        # Nobody can choose other parts here, so a class that the draw left out is told and not refused.
        self.rare_classes = base.classes
        self.threshold = round(share * 2**32)
        self.seed = seed

    def _held(self, identity: str) -> bool:
        return derive(self.seed, f"tuning/{identity}") % 2**32 < self.threshold

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        """Yield training images; see `Dataset.samples`. A held-out image without a mask is in no part."""
        if part == "test":
            return
        for sample in self.base.samples(self.home(raw), "train", only):
            held = self._held(sample.id)
            if held == (part == "val") and (not held or sample.mask is not None):
                yield replace(sample, part=part)

    def images(self, raw: Path, part: str) -> Iterator[Sample]:
        """Yield the images of `train` without reading a mask, of other parts by `samples`."""
        if part != "train":
            yield from super().images(raw, part)
            return
        yield from (sample for sample in self.base.images(self.home(raw), "train") if not self._held(sample.id))

    def origin(self, raw: Path, part: str, identity: str, *, mask: bool = False) -> str:  # noqa: ARG002
        """See `Dataset.origin`."""
        return self.base.origin(self.home(raw), "train", identity, mask=mask)
