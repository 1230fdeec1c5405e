"""Copy finished runs into a folder of evidence: what a report needs of them, and no weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rc2l_bench.errors import BenchError, UsageError, suggest
from rc2l_bench.files import replace_folder
from rc2l_bench.readers import read_bytes
from rc2l_bench.report.evidence import WEIGHTS, check_run, is_optional
from rc2l_bench.report.results import Cell, find_folders
from rc2l_bench.seals import RECORD, read_listed, read_record
from rc2l_bench.variants import base_of, file_name_of, variant_of


class ExportedRun(NamedTuple):
    """A run that lies in a folder of evidence.

    Attributes:
        folder: where.
        bytes: of all its files.
        new: whether it was not there before.
    """

    folder: Path
    bytes: int
    new: bool


@dataclass(frozen=True)
class Choice:
    """Which cells are meant; what is empty means all.

    Attributes:
        dataset: names.
        split: names.
        method: ids or tails of ids; one without a variant means the method itself.
        seed: numbers.
    """

    dataset: Collection[str] = ()
    split: Collection[str] = ()
    method: Collection[str] = ()
    seed: Collection[int] = ()

    def takes(self, cell: Cell) -> bool:
        """Tell whether a cell is meant."""
        inside = zip((self.dataset, self.split, self.seed), (cell.dataset, cell.split, cell.seed), strict=True)
        named = not self.method or any(_is_called(cell.method, name) for name in self.method)
        return named and all(not wanted or value in wanted for wanted, value in inside)


def _is_called(method: str, name: str) -> bool:
    return variant_of(method) == variant_of(name) and f"/{base_of(method)}".endswith(f"/{base_of(name)}")


def export_runs(runs: Path, out: Path, choice: Choice, picture_bytes: int) -> Iterator[ExportedRun]:
    """Copy runs into a folder of evidence, each as a whole or not at all, after all of them were checked.

    Args:
        runs: folder of `<dataset>/<split>/<method id>/seed<k>`.
        out: folder like it; other runs in it stay.
        choice: which cells.
        picture_bytes: of a run's pictures at most; whole images, in their order.

    Yields:
        Every run, when it is there.

    Raises:
        UsageError: a name stands for no finished run, or another run of a cell lies in the folder already.
        BenchError: a run is damaged or contradicts itself.
    """
    chosen = _choose(runs, choice)
    if faults := [fault for cell, folder in chosen for fault in check_run(cell, folder)]:
        more = f"; and {len(faults) - 1} more, which `rc2l-bench runs verify {runs}` lists" if len(faults) > 1 else ""
        raise BenchError(f"{faults[0]}{more}: nothing was exported")
    targets = [out / cell.dataset / cell.split / file_name_of(cell.method) / f"seed{cell.seed}" for cell, _ in chosen]
    there = [_holds(target, folder) for target, (_, folder) in zip(targets, chosen, strict=True)]
    for target, known, (_, folder) in zip(targets, there, chosen, strict=True):
        replace_folder(target, _copier(folder, picture_bytes), sign=RECORD)
        yield ExportedRun(target, sum(file.stat().st_size for file in target.rglob("*") if file.is_file()), not known)


def _choose(runs: Path, choice: Choice) -> list[tuple[Cell, Path]]:
    found = sorted(find_folders(runs))
    cells = [cell for cell, _ in found]
    for kind, wanted in vars(choice).items():
        for name in wanted:
            if not any(Choice(**{kind: [name]}).takes(cell) for cell in cells):
                there = sorted({str(getattr(cell, kind)) for cell in cells})
                raise UsageError(f"--{kind} {name}: no finished run under {runs} has it; {suggest(str(name), there)}")
    chosen = [(cell, folder) for cell, folder in found if choice.takes(cell)]
    if not chosen:
        raise UsageError(f"{runs}: no finished run there is all of what was asked for")
    return chosen


def _holds(target: Path, folder: Path) -> bool:
    """Tell whether a place holds a run already.

    Raises:
        UsageError: it holds another one.
    """
    if not target.exists():
        return False
    ours, theirs = read_bytes(folder / RECORD), target / RECORD
    if theirs.is_file() and read_bytes(theirs) == ours:
        if (target / WEIGHTS).exists():
            raise UsageError(f"{target}: holds the run with its weights, which evidence lacks: choose another folder")
        return True
    raise UsageError(f"{target}: holds another run than {folder}: remove it, or choose another folder")


def _copier(folder: Path, picture_bytes: int) -> Callable[[Path], None]:
    """Make the function that fills the folder of a run."""
    _, listed = read_record(folder)
    necessary = [name for name in listed if not is_optional(name)]
    # Of the pictures those that are there: the folder may be one of evidence itself.
    pictures = sorted(name for name in listed if is_optional(name) and (folder / name).is_file())
    names = [*necessary, *_pick_pictures(folder, pictures, picture_bytes)]

    def fill(part: Path) -> None:
        (part / RECORD).write_bytes(read_bytes(folder / RECORD))
        for name in names:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(read_listed(folder, name, listed))

    return fill


def _pick_pictures(folder: Path, names: Sequence[str], most: int) -> list[str]:
    """Choose the first images that fit, each with its truth and its prediction."""
    picked: list[str] = []
    for image in (name for name in names if name.endswith(".image.png")):
        stem = image.removesuffix("image.png")
        panel = [name for name in names if name.startswith(stem)]
        most -= sum((folder / name).stat().st_size for name in panel)
        if most < 0:
            break
        picked += panel
    return picked
