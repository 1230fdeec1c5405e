"""A data set that is made of the files of another one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from rc2l_bench.data.datasets.base import Dataset


class Derived(Dataset):
    """Classes, sizes and files are those of the data set itself, which is fetched once; `raw` stays an empty folder."""

    def __init__(self, name: str, base: Dataset) -> None:
        """Take over what a data set says of itself.

        Args:
            name: of this one.
            base: the data set itself.
        """
        self.name, self.base = name, base
        self.classes, self.palette, self.licence = base.classes, base.palette, base.licence
        self.rare_classes, self.pool = base.rare_classes, base.pool

    @property
    def canvas(self) -> tuple[int, int]:
        """See `Dataset.canvas`."""
        return self.base.canvas

    @property
    def usual(self) -> tuple[int, int]:
        """See `Dataset.usual`."""
        return self.base.usual

    def home(self, raw: Path) -> Path:
        """Where the data set itself keeps its files."""
        return raw.parent / self.base.name

    def prepare(self, raw: Path) -> None:
        """Prepare the data set itself."""
        self.base.prepare(self.home(raw))
        raw.mkdir(parents=True, exist_ok=True)

    def verify(self, raw: Path) -> None:
        """Verify the data set itself."""
        self.base.verify(self.home(raw))

    def present(self, raw: Path) -> bool:
        """Tell whether the data set itself is there."""
        return self.base.present(self.home(raw))

    def inputs(self) -> Iterable[Path]:
        """See `Dataset.inputs`."""
        return self.base.inputs()

    def aliases(self) -> dict[str, str]:
        """See `Dataset.aliases`."""
        return self.base.aliases()

    def remedy(self, seen: Collection[int]) -> str:
        """See `Dataset.remedy`."""
        return self.base.remedy(seen)
