"""`extends: <dataset>`: another data set with a pool of unlabelled images of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from rc2l_bench.config import Model
from rc2l_bench.data.datasets.base import Dataset, Sample
from rc2l_bench.data.datasets.pool_config import PoolConfig


class ExtendedConfig(Model):
    """A `datasets/<name>.yaml` that adds images to a data set."""

    extends: str
    """Name of the data set whose labelled, val and test images these are."""
    pool: PoolConfig
    """More unlabelled ones."""


class Extended(Dataset):
    """Everything is that of the data set itself, which is fetched once; only the pool is larger."""

    def __init__(self, path: Path, base: Dataset, config: ExtendedConfig) -> None:
        """Say what is added to what.

        Args:
            path: the description, `datasets/<name>.yaml`.
            base: the data set that it extends.
            config: what is written in it.
        """
        self.path, self.name, self.base, self.pool = path, path.stem, base, config.pool
        self.classes, self.palette, self.licence = base.classes, base.palette, base.licence
        self.rare_classes = base.rare_classes

    @property
    def canvas(self) -> tuple[int, int]:
        """See `Dataset.canvas`."""
        return self.base.canvas

    def _home(self, raw: Path) -> Path:
        """Where the data set itself keeps its files."""
        return raw.parent / self.base.name

    def prepare(self, raw: Path) -> None:
        """Prepare the data set itself; `raw` stays an empty folder."""
        self.base.prepare(self._home(raw))
        raw.mkdir(parents=True, exist_ok=True)

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        """See `Dataset.samples`."""
        return self.base.samples(self._home(raw), part, only)

    def images(self, raw: Path, part: str) -> Iterator[Sample]:
        """See `Dataset.images`."""
        return self.base.images(self._home(raw), part)

    def verify(self, raw: Path) -> None:
        """Verify the data set itself."""
        self.base.verify(self._home(raw))

    def present(self, raw: Path) -> bool:
        """Tell whether the data set itself is there."""
        return self.base.present(self._home(raw))

    def inputs(self) -> Iterable[Path]:
        """See `Dataset.inputs`."""
        yield self.path
        yield from self.base.inputs()
        yield from super().inputs()

    def aliases(self) -> dict[str, str]:
        """See `Dataset.aliases`."""
        return self.base.aliases()

    def remedy(self, seen: Collection[int]) -> str:
        """See `Dataset.remedy`."""
        return self.base.remedy(seen)

    def origin(self, raw: Path, part: str, identity: str, *, mask: bool = False) -> str:
        """See `Dataset.origin`."""
        return self.base.origin(self._home(raw), part, identity, mask=mask)

    def meta(self) -> dict[str, Any]:
        """See `Dataset.meta`; the name is this one's."""
        return self.base.meta() | {"name": self.name}
