"""Define what every data set offers to the stages: classes, colours, canvas, sources, and samples by part."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rc2l_bench.data.addresses import is_remote, list_tars
from rc2l_bench.data.fetch import Source, is_stamped, verify

if TYPE_CHECKING:  # typed forms need pydantic, which takes too long for the stage that always runs
    from rc2l_bench.data.datasets.pool_config import StreamConfig

__all__ = ["PARTS", "RAW", "Dataset", "Sample", "Source", "Suffix"]

PARTS = ("train", "val", "test")
RAW = Path("data/raw")
"""Where each data set has the folder that its `prepare` fills."""
Suffix = Literal["png", "jpg"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    r"""One image and, where there is one, its mask.

    Attributes:
        id: unique within the data set; holds no `\\` and no control characters, begins and ends with no `/`.
        part: `train`, `val` or `test`.
        image: the bytes of the source file, untouched.
        suffix: what these bytes are.
        mask: an 8-bit PNG of class indices 0..K-1 and 255 (ignored), single channel or palette; None = unlabelled.
    """

    id: str
    part: str
    image: bytes
    suffix: Suffix
    mask: bytes | None


class Dataset(ABC):
    """Images with classes. `raw` is always the folder `RAW/<name>` of this data set."""

    name: str
    classes: tuple[str, ...]
    """K names; the index is the label."""
    palette: tuple[tuple[int, int, int], ...]
    """K colours, 0..255, red green blue."""
    sources: tuple[Source, ...] = ()
    """Files that are downloaded; none for what is generated or already lies on the disk."""
    licence: str = ""
    """One line."""
    counts: Mapping[str, int]
    """Images of every part, where that is known of a published data set."""
    rare_classes: Collection[str] = ()
    """Classes that a part may have no pixel of."""
    pool: list[str] | StreamConfig | None = None
    """Further unlabelled images that are not copied; see `pool_config`."""

    @property
    @abstractmethod
    def canvas(self) -> tuple[int, int]:
        """Height and width in pixels that every image fits into. A subclass may write `canvas = (360, 480)`."""

    @property
    def usual(self) -> tuple[int, int]:
        """Height and width of a large image: the canvas, unless that is only a bound of ours."""
        return self.canvas

    @property
    def made(self) -> Source | None:
        """A file that `prepare` makes of the sources, as good as they are; it lies beside them."""
        return None

    @abstractmethod
    def prepare(self, raw: Path) -> None:
        """Fill `raw` and verify it; continue what was cut off; do nothing when all is there.

        Raises:
            BenchError: a source is out of reach, or is not what was expected.
        """

    @abstractmethod
    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        """Yield the samples of a part in sorted order of their ids, one at a time in memory.

        Args:
            raw: where `prepare` put the data.
            part: `train`, `val` or `test`; a part that the data set does not have is empty.
            only: ids to yield; None = all.

        Raises:
            BenchError: a file is missing or is not what `prepare` left.
        """

    def images(self, raw: Path, part: str) -> Iterator[Sample]:
        """Yield the samples of a part without masks, which a subclass need not even read then.

        The pool of unlabelled images is made of these, so no byte of a label can get into it.
        """
        return (replace(sample, mask=None) for sample in self.samples(raw, part))

    def verify(self, raw: Path) -> None:
        """Read everything in `raw` again and compare it with what was expected.

        Raises:
            BenchError: something is missing or differs.
        """
        # Without sources the data is generated or the user's own: `prepare` compares it with what it makes or finds.
        for source in self.sources:
            verify(source, raw / source.name)
        if self.made:
            (raw / self.made.name).unlink(missing_ok=True)
        if self.made or not self.sources:
            self.prepare(raw)

    def present(self, raw: Path) -> bool:
        """Tell whether `prepare` has been through, without reading the data."""
        # By stamps of size and time: a status line must not read gigabytes. `verify` is there to do so.
        wanted = [*self.sources, *([self.made] if self.made else [])]
        return raw.is_dir() and any(raw.iterdir()) and all(is_stamped(source, raw / source.name) for source in wanted)

    def inputs(self) -> Iterable[Path]:
        """List the files outside of `raw` that `prepare` reads: when one of them changes, it has to run again.

        Of a pool, its tars, and of folders of images the folders: these change when a file comes or goes, and millions
        of files are not looked at each time.
        """
        for text in self.pool if isinstance(self.pool, list) else ():
            root = Path(text).expanduser()
            if root.is_dir():
                yield from (path for path in (root, *root.rglob("*/")) if path.is_dir())
            elif not is_remote(text):
                yield from map(Path, list_tars(text))

    def aliases(self) -> dict[str, str]:
        """Map further names, by which lists may call images, to ids."""
        return {}

    def remedy(self, seen: Collection[int]) -> str:  # noqa: ARG002
        """Say what a user can do where a class has no pixel.

        Args:
            seen: labels that masks do have, 255 included.
        """
        return f"these are not the masks of {self.name}, fetch them again"

    def origin(self, raw: Path, part: str, identity: str, *, mask: bool = False) -> str:  # noqa: ARG002
        """Say where a sample's image or mask comes from, for messages."""
        return f"{self.name}: {'mask' if mask else 'image'} of '{identity}' in {part}"

    def meta(self) -> dict[str, Any]:
        """Describe name, classes, palette and canvas, ready for JSON: a part of the shards and of run.json."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "palette": [list(colour) for colour in self.palette],
            "canvas": list(self.canvas),
        }
