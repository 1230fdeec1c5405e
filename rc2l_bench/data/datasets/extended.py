"""`extends: <dataset>`: another data set with a pool of unlabelled images of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from rc2l_bench.config import Model
from rc2l_bench.data.datasets.base import Dataset, Sample
from rc2l_bench.data.datasets.derived import Derived
from rc2l_bench.data.datasets.pool_config import PoolConfig
from rc2l_bench.errors import UsageError


class ExtendedConfig(Model):
    """A `datasets/<name>.yaml` that adds images to a data set."""

    extends: str
    """Name of the data set whose labelled, val and test images these are."""
    pool: PoolConfig
    """More unlabelled ones."""


class Extended(Derived):
    """Everything is that of the data set itself; only the pool is larger."""

    def __init__(self, path: Path, base: Dataset, config: ExtendedConfig) -> None:
        """Say what is added to what.

        Args:
            path: the description, `datasets/<name>.yaml`.
            base: the data set that it extends.
            config: what is written in it.
        """
        super().__init__(path.stem, base)
        self.path = path
        if isinstance(self.pool, list) and isinstance(config.pool, list):
            self.pool = [*self.pool, *config.pool]
        elif self.pool:
            raise UsageError(f"{path}: pool: '{base.name}' has one already, and a stream has nothing beside it")
        else:
            self.pool = config.pool

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        """See `Dataset.samples`."""
        return self.base.samples(self.home(raw), part, only)

    def images(self, raw: Path, part: str) -> Iterator[Sample]:
        """See `Dataset.images`."""
        return self.base.images(self.home(raw), part)

    def inputs(self) -> Iterable[Path]:
        """See `Dataset.inputs`."""
        yield self.path
        # A pool of the data set itself is part of this one's.
        yield from dict.fromkeys([*super().inputs(), *Dataset.inputs(self)])

    def origin(self, raw: Path, part: str, identity: str, *, mask: bool = False) -> str:
        """See `Dataset.origin`."""
        return self.base.origin(self.home(raw), part, identity, mask=mask)

    def meta(self) -> dict[str, Any]:
        """See `Dataset.meta`; the name is this one's."""
        return self.base.meta() | {"name": self.name}
