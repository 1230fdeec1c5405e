"""A data set that is made of the files of another one: what it says of itself, and where these files lie."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from rc2l_bench.data.datasets.base import Dataset, Sample
from rc2l_bench.data.datasets.derived import Derived


# ruff: noqa: ARG002 - what the interface hands over
class Base(Dataset):
    """Says of everything that it is its own."""

    name = "base"
    classes = ("a", "b")
    palette = ((0, 0, 0), (1, 1, 1))
    licence = "one line"
    rare_classes = ("b",)
    canvas = (4, 6)
    usual = (2, 3)

    def __init__(self) -> None:
        self.asked: list[tuple[str, Path]] = []
        self.pool = ["more"]

    def prepare(self, raw: Path) -> None:
        self.asked.append(("prepare", raw))

    def verify(self, raw: Path) -> None:
        self.asked.append(("verify", raw))

    def present(self, raw: Path) -> bool:
        self.asked.append(("present", raw))
        return True

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        yield from ()

    def inputs(self) -> list[Path]:
        return [Path("own.txt")]

    def aliases(self) -> dict[str, str]:
        return {"x": "y"}

    def remedy(self, seen: Collection[int]) -> str:
        return f"look at {sorted(seen)}"


class Same(Derived):
    """Nothing of its own."""

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        return self.base.samples(self.home(raw), part, only)


@pytest.fixture
def base() -> Base:
    return Base()


@pytest.mark.parametrize("what", ["classes", "palette", "licence", "rare_classes", "pool", "canvas", "usual"])
def test_what_the_data_set_says_of_itself_holds(base, what):
    assert getattr(Same("same", base), what) == getattr(base, what)


def test_the_name_is_its_own(base):
    assert Same("same", base).meta() == base.meta() | {"name": "same"}


def test_inputs_aliases_and_advice_are_those_of_the_data_set(base):
    same = Same("same", base)
    assert (same.inputs(), same.aliases(), same.remedy({7, 1})) == ([Path("own.txt")], {"x": "y"}, "look at [1, 7]")


def test_the_files_lie_in_the_folder_of_the_data_set_and_its_own_stays_empty(base, tmp_path):
    same, raw = Same("same", base), tmp_path / "raw/same"
    same.prepare(raw)
    same.verify(raw)
    assert same.present(raw)
    assert base.asked == [(name, tmp_path / "raw/base") for name in ("prepare", "verify", "present")]
    assert list(raw.iterdir()) == []
